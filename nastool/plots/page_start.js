draw();
tables();
const shapes = page.members.length ? page.members : Object.values(page.columns)[0] || [];
const before = page.refresh ? recalled("nastool-shape") : null;
const chosenShape = shapes.find((shape) => shape.text === before);
if (shapes.length) select(chosenShape || shapes[Math.floor(shapes.length / 2)]);
repaint();
// Written anew while a run goes on; a page that nobody looks at waits until somebody does.
if (page.refresh) {
  const again = () => {
    if (document.hidden) return;
    recalled("nastool-shape", selected ? selected.text : "");
    location.reload();
  };
  setTimeout(() => {
    document.addEventListener("visibilitychange", again);
    again();
  }, 1000 * page.refresh);
}
