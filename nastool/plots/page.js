"use strict";
const page = JSON.parse(document.getElementById("page-data").textContent);
const plots = [];

function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return {
    text: colour("--text"), muted: colour("--muted"), grid: colour("--grid"),
    surface: colour("--surface"),
  };
}

const PAPER = { text: "#1f2937", muted: "#5b6472", grid: "#e3e7ec", surface: "#ffffff" };

// Colours follow the page's, so that a figure changes with the system's light or dark.
function painted(layout, { text, muted, grid, surface } = theme()) {
  const changes = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": text,
    "modebar.bgcolor": "rgba(0,0,0,0)", "modebar.color": muted, "modebar.activecolor": text,
    "hoverlabel.bgcolor": surface, "hoverlabel.bordercolor": grid, "hoverlabel.font.color": text,
  };
  for (const name of Object.keys(layout)) {
    if (!/^[xy]axis\d*$/.test(name)) continue;
    Object.assign(changes, {
      [name + ".gridcolor"]: grid, [name + ".zerolinecolor"]: grid, [name + ".linecolor"]: grid,
      [name + ".tickfont.color"]: muted,
    });
  }
  return changes;
}

// Saved for paper whatever the screen's colours are.
function saving(format, title, icon) {
  return {
    name: format, title, icon,
    click: async (element) => {
      const { width, height } = element.getBoundingClientRect();
      await Plotly.relayout(element, painted(element.layout, PAPER));
      await Plotly.downloadImage(element, { format, width, height, scale: 2, filename: element.id });
      await Plotly.relayout(element, painted(element.layout));
    },
  };
}

function draw() {
  for (const { id, figure } of page.figures) {
    const element = document.getElementById(id);
    const narrow = element.clientWidth < 600;
    Object.assign(figure.layout, {
      margin: { l: narrow ? 52 : 70, r: 14, t: narrow ? 60 : 40, b: 50 },
      font: { size: narrow ? 11 : 13 }, dragmode: narrow ? false : "zoom", autosize: true,
    });
    const config = { responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover",
      modeBarButtons: [[saving("png", "Save as PNG", Plotly.Icons.camera),
        saving("svg", "Save as SVG", Plotly.Icons.disk), "zoom2d", "pan2d", "resetScale2d"]] };
    Plotly.newPlot(element, figure.data, figure.layout, config)
      .then(() => Plotly.relayout(element, painted(figure.layout)));
    plots.push({ element, figure });
    element.on("plotly_click", (event) => {
      const point = event.points[0];
      if (page.columns[id]) select(page.columns[id][point.pointIndex[1]]);
      else if (id === "front" && point.customdata) select(fromPoint(point));
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const { element, figure } of plots) Plotly.relayout(element, painted(figure.layout));
  });
}

function fromPoint(point) {
  const [text, details, genotype] = point.customdata;
  const lines = [page.axes.y, page.axes.x].map((axis, i) =>
    `${axis.name} ${quantity(i ? point.x : point.y, axis)}${axis.kind ? ` (${axis.kind})` : ""}`);
  return { text, genotype, lines: lines.concat(details.split("<br>").filter(Boolean)) };
}

function quantity(value, axis) {
  const steps = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];
  if (!value || !(axis.large || axis.unit)) return `${+value.toPrecision(4)}${axis.unit}`;
  const [factor, prefix] = steps.find(([step]) => Math.abs(value) >= step) || steps.at(-1);
  return `${+(value / factor).toPrecision(4)}${prefix}${axis.unit}`;
}

// One bar a gene, first at the bottom as the input of a network; centred, as wide as the choice.
function select({ text, genotype, lines }) {
  const panel = document.getElementById("shape");
  const genes = page.genes;
  const numeric = genes.every((gene) => gene.choices.every((c) => typeof c === "number"));
  const top = Math.max(...genes.flatMap((gene) => (numeric ? gene.choices : [gene.choices.length])));
  const step = 20, height = genes.length * step;
  const bars = genes.map((gene, i) => {
    const choice = gene.choices[genotype[i]];
    const width = 170 * (numeric ? choice : genotype[i] + 1) / top;
    const y = height - (i + 1) * step;
    return `<rect x="${(118 - width / 2).toFixed(1)}" y="${y + 2}" width="${width.toFixed(1)}"` +
      ` height="${step - 5}" rx="2"><title>${escape(gene.name)}: ${escape(choice)}</title></rect>` +
      `<text x="0" y="${y + 13}">${i + 1}</text><text x="208" y="${y + 13}">${escape(choice)}</text>`;
  });
  panel.innerHTML = `<h3>Selected shape</h3>` +
    `<svg viewBox="0 0 250 ${height}" role="img" aria-label="${escape(text)}">${bars.join("")}</svg>` +
    `<p>${escape(text)}</p>` + lines.map((line) => `<p>${escape(line)}</p>`).join("");
  for (const row of document.querySelectorAll("tr[data-member]")) {
    row.classList.toggle("selected", page.members[row.dataset.member].text === text);
  }
}

function escape(value) {
  const signs = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return String(value).replace(/[&<>"]/g, (sign) => signs[sign]);
}

function sortable(table) {
  const body = table.tBodies[0], headers = table.querySelectorAll("th");
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const falling = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value;
      const number = (row) => (key(row) === "nan" ? Infinity : +key(row));
      const numeric = [...body.rows].every((row) => !Number.isNaN(number(row)));
      // Equal ones stay as they are: subtracting two infinite values gives no number.
      const compare = (a, b) => (numeric ? Math.sign(number(a) - number(b)) || 0
        : key(a).localeCompare(key(b), undefined, { numeric: true }));
      [...body.rows].sort((a, b) => (falling ? -1 : 1) * compare(a, b))
        .forEach((row) => body.append(row));
    });
  });
  for (const row of body.rows) {
    if (!row.dataset.member) continue;
    row.addEventListener("click", () => select(page.members[row.dataset.member]));
  }
}

draw();
document.querySelectorAll("table").forEach(sortable);
if (page.members.length) select(page.members[Math.floor(page.members.length / 2)]);
