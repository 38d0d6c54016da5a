draw();
tables();
const shapes = page.members.length ? page.members : Object.values(page.columns)[0] || [];
if (shapes.length) select(shapes[Math.floor(shapes.length / 2)]);
repaint();
// Written anew while a run goes on: what was sorted or selected is no reason to wait.
if (page.refresh) setTimeout(() => location.reload(), 1000 * page.refresh);
