const page = JSON.parse(document.getElementById("page-data").textContent);
const plots = new Map();
const NARROW = 600;
const PAPER = {
  text: "#1f2937", muted: "#5b6472", grid: "#e3e7ec", surface: "#ffffff", accent: "#2563eb",
};

function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(
    Object.keys(PAPER).map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

// Figures name no colours but those of their data: the rest is the page's.
function template({ text, muted, grid, surface } = colours()) {
  const clear = "rgba(0,0,0,0)";
  const axis = {
    gridcolor: grid, zerolinecolor: grid, linecolor: grid, tickfont: { color: muted },
    automargin: true,
  };
  return {
    layout: {
      paper_bgcolor: clear, plot_bgcolor: clear, font: { color: text }, xaxis: axis, yaxis: axis,
      legend: { bgcolor: clear }, modebar: { bgcolor: clear, color: muted, activecolor: text },
      hoverlabel: { bgcolor: surface, bordercolor: grid, font: { color: text } },
      activeselection: { fillcolor: grid },
    },
    data: {
      parcoords: [{ labelfont: { color: text }, tickfont: { color: muted },
        rangefont: { color: muted }, unselected: { line: { color: muted, opacity: 0.12 } } }],
      splom: [{ unselected: { marker: { opacity: 0.15 } } }],
    },
  };
}

// Saved for paper whatever the screen's colours are.
function saving(format, title, icon) {
  return {
    name: format, title, icon,
    click: async (element) => {
      const { width, height } = element.getBoundingClientRect();
      await Plotly.relayout(element, { template: template(PAPER) });
      await Plotly.downloadImage(element, { format, width, height, scale: 2, filename: element.id });
      await Plotly.relayout(element, { template: template() });
    },
  };
}

function fitted(element, figure) {
  const narrow = element.clientWidth < NARROW;
  const flat = figure.data.every((trace) => trace.type !== "parcoords");
  // A legend above makes room for itself.
  const margin = flat ? { l: narrow ? 48 : 64, r: 14, t: 20, b: 48 }
    : { l: narrow ? 44 : 70, r: narrow ? 44 : 70, t: 56, b: 24 };
  return { margin, "font.size": narrow ? 11 : 13, dragmode: narrow ? false : "zoom" };
}

function draw() {
  for (const drawn of page.figures) {
    const { id, figure } = drawn;
    const element = document.getElementById(id);
    const flat = figure.data.some((trace) => trace.type !== "parcoords");
    // A ring around the selected shape, over all that is drawn.
    const points = figure.data.some((t) => t.type === "scatter" && selectable(t));
    if (points) {
      figure.data.push({
        type: "scatter", mode: "markers", x: [], y: [], hoverinfo: "skip", showlegend: false,
        name: "selected", marker: { size: 15, symbol: "circle-open", line: { width: 3 } },
      });
    }
    // In a narrow window names stand below each other: the figure grows, not the room for it.
    const named = figure.data.filter((trace) => trace.name && trace.showlegend !== false).length;
    if (element.clientWidth < NARROW && named > 4) {
      element.style.height = `${element.clientHeight + 19 * named}px`;
    }
    const { margin, "font.size": size, dragmode } = fitted(element, figure);
    const layout = { ...figure.layout, margin, dragmode, autosize: true, template: template(),
      font: { ...figure.layout.font, size } };
    const buttons = [saving("png", "Save as PNG", Plotly.Icons.camera),
      saving("svg", "Save as SVG", Plotly.Icons.disk)];
    const config = { responsive: true, displaylogo: false,
      displayModeBar: element.clientWidth < NARROW ? false : "hover",
      modeBarButtons: [[...buttons, ...(flat ? ["zoom2d", "pan2d", "resetScale2d"] : [])]] };
    Plotly.newPlot(element, figure.data, layout, config);
    plots.set(id, { element, figure, points, wide: element.clientWidth >= NARROW });
    element.on("plotly_click", (event) => {
      const point = event.points[0];
      if (page.columns[id]) select(page.columns[id][point.pointIndex[1]]);
      else if (isShape(point.customdata)) select(fromPoint(point.customdata));
    });
    if (drawn.choice.length) chooseAxes(element, drawn);
    if (drawn.brushes) brush(element, drawn);
  }
}

// A page is turned, or a window made wider: what is too small for one is too large for the other.
addEventListener("resize", () => {
  for (const plot of plots.values()) {
    const wide = plot.element.clientWidth >= NARROW;
    if (wide !== plot.wide) Plotly.relayout(plot.element, fitted(plot.element, plot.figure));
    plot.wide = wide;
  }
});

function repaint() {
  const dark = document.documentElement.dataset.theme === "dark";
  const button = document.getElementById("theme");
  button.textContent = dark ? "☀ Light" : "☾ Dark";
  button.setAttribute("aria-label", dark ? "Show in light colours" : "Show in dark colours");
  for (const { element } of plots.values()) Plotly.relayout(element, { template: template() });
  if (selected) mark(selected);
}

document.getElementById("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  kept("nastool-theme", theme);
  setTheme(theme);
  repaint();
});
system.addEventListener("change", () => {
  if (kept("nastool-theme")) return;
  setTheme(system.matches ? "dark" : "light");
  repaint();
});

function escape(value) {
  const signs = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return String(value).replace(/[&<>"]/g, (sign) => signs[sign]);
}
