// Two axes of many: what is seen is a projection, and the page says so in the figure's heading.
function chooseAxes(element, { id, choice }) {
  const tools = document.getElementById(`${id}-tools`);
  const start = { x: element.layout.xaxis.title.text, y: element.layout.yaxis.title.text };
  const selects = ["y", "x"].map((direction) => {
    const label = document.createElement("label");
    const list = document.createElement("select");
    list.dataset.axis = direction;
    for (const [i, { name, label: text }] of choice.entries()) {
      list.append(new Option(name, i, false, text === start[direction]));
    }
    label.append(direction === "y" ? "up " : "right ", list);
    tools.append(label);
    return list;
  });
  const redraw = () => {
    const traces = element.data.flatMap((trace, i) => (trace.meta ? [i] : []));
    const [y, x] = selects.map((list) => choice[list.value]);
    Plotly.update(element, {
      x: traces.map((i) => element.data[i].meta[x.name]),
      y: traces.map((i) => element.data[i].meta[y.name]),
    }, { xaxis: x.layout, yaxis: y.layout, shapes: [], annotations: [] }, traces)
      .then(() => Plotly.relayout(element, { "xaxis.autorange": true, "yaxis.autorange": true }))
      .then(() => selected && mark(selected));
  };
  selects.forEach((list) => list.addEventListener("change", redraw));
}

const PREFIXES = { n: 1e-9, u: 1e-6, "µ": 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9 };

function number(text) {
  const found = /^\s*([-+0-9.eE]+)\s*([numkMGµ]?)\s*$/.exec(text);
  return found ? +found[1] * (PREFIXES[found[2]] || 1) : NaN;
}

// Ranges of a figure's axes hide the rows of shapes outside of them; the same ranges as numbers
// are there for those who take the keyboard.
function brush(element, { id }) {
  const tools = document.getElementById(`${id}-tools`);
  const dimensions = () => element.data[0].dimensions;
  const status = document.createElement("output");
  const fields = dimensions().map((dimension, i) => {
    const set = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.textContent = dimension.label;
    set.append(legend, ...["from", "to"].map((end) => {
      const field = document.createElement("input");
      field.placeholder = end;
      field.setAttribute("aria-label", `${dimension.label} ${end}`);
      field.addEventListener("change", () => narrow(i));
      return field;
    }));
    return set;
  });
  const clear = document.createElement("button");
  clear.textContent = "All shapes";
  clear.addEventListener("click", () => {
    for (const field of tools.querySelectorAll("input")) field.value = "";
    const none = Object.fromEntries(dimensions().map((_, i) =>
      [`dimensions[${i}].constraintrange`, null]));
    Plotly.restyle(element, none, [0]);
  });
  tools.append(...fields, clear, status);

  function narrow(i) {
    const [from, to] = [...fields[i].querySelectorAll("input")].map((f) => number(f.value));
    const range = [Number.isNaN(from) ? -1e300 : from, Number.isNaN(to) ? 1e300 : to];
    const free = Number.isNaN(from) && Number.isNaN(to);
    const values = dimensions()[i].values;
    const ends = [Math.min(...values), Math.max(...values)];
    const kept = [Math.max(range[0], ends[0]), Math.min(range[1], ends[1])];
    Plotly.restyle(element, { [`dimensions[${i}].constraintrange`]: free ? null : [kept] }, [0]);
  }

  function hide() {
    const inside = (i) => dimensions().every(({ values, constraintrange: range }) => {
      if (!range || !range.length) return true;
      const ranges = Array.isArray(range[0]) ? range : [range];
      return ranges.some(([low, high]) => values[i] >= low && values[i] <= high);
    });
    let count = 0;
    for (const row of document.querySelectorAll("tr[data-member]")) {
      row.hidden = !inside(+row.dataset.member);
      count += !row.hidden;
    }
    status.textContent = `${count} of ${page.members.length} shapes`;
  }
  element.on("plotly_restyle", hide);
  hide();
}
