draw();
tables();
if (page.members.length) select(page.members[Math.floor(page.members.length / 2)]);
repaint();
// Written anew while a run goes on: what was sorted or selected is no reason to wait.
if (page.refresh) setTimeout(() => location.reload(), 1000 * page.refresh);
