let selected = null, pinned = null;

// A point of a figure that stands for a shape: its text, lines about it, indices of its choices.
function isShape(data) {
  return Array.isArray(data) && Array.isArray(data[2]);
}

function selectable(trace) {
  return Boolean(trace.customdata && isShape(trace.customdata[0]));
}

function fromPoint([text, details, genotype]) {
  return { text, genotype, lines: details.split("<br>").filter(Boolean) };
}

function select(shape) {
  selected = shape;
  show();
  mark(shape);
}

// Choices as lengths: widths themselves, or the places of choices that are no numbers.
function lengths() {
  const numeric = page.genes.every((g) => g.choices.every((c) => typeof c === "number"));
  const top = Math.max(...page.genes.flatMap((g) => (numeric ? g.choices : [g.choices.length])));
  return (gene, index) => (numeric ? gene.choices[index] : index + 1) / top;
}

// One bar a gene, first at the bottom as the input of a network; two shapes back to back.
function picture(shape, other) {
  const step = 20, height = page.genes.length * step, length = lengths();
  const rows = page.genes.map((gene, i) => {
    const y = height - (i + 1) * step;
    const bar = (x, width, style, choice) =>
      `<rect class="${style}" x="${x.toFixed(1)}" y="${y + 2}" width="${width.toFixed(1)}"` +
      ` height="${step - 5}" rx="2"><title>${escape(gene.name)}: ${escape(choice)}</title></rect>`;
    const label = (x, text, anchor) =>
      `<text x="${x}" y="${y + 13}" text-anchor="${anchor}">${escape(text)}</text>`;
    const choice = gene.choices[shape.genotype[i]];
    const size = length(gene, shape.genotype[i]);
    if (!other) {
      return label(0, i + 1, "start") + bar(118 - 85 * size, 170 * size, "one", choice) +
        label(250, choice, "end");
    }
    const first = gene.choices[other.genotype[i]], left = 80 * length(gene, other.genotype[i]);
    const same = first === choice ? " same" : "";
    return label(0, first, "start") + bar(125 - left, left, `two${same}`, first) +
      bar(127, 80 * size, `one${same}`, choice) + label(250, choice, "end");
  });
  const about = other ? `${other.text} beside ${shape.text}` : shape.text;
  return `<svg viewBox="0 0 250 ${height}" role="img" aria-label="${escape(about)}">` +
    `${rows.join("")}</svg>`;
}

function said(shape, style) {
  return `<p class="name ${style}">${escape(shape.text)}</p>` +
    shape.lines.map((line) => `<p>${escape(line)}</p>`).join("");
}

function show() {
  const panel = document.getElementById("shape");
  if (!panel || !selected) return;
  const other = pinned && pinned.text !== selected.text ? pinned : null;
  const open = panel.classList.contains("open");
  const changed = other ? page.genes.filter((g, i) =>
    g.choices[other.genotype[i]] !== g.choices[selected.genotype[i]]).length : 0;
  const heading = other ? `${changed} of ${page.genes.length} differ` : "Selected shape";
  panel.innerHTML =
    `<div class="brief"><button class="fold" aria-expanded="${open}" aria-label="Show the shape">` +
    `${open ? "▾" : "▴"}</button><span>${escape(selected.text)}</span></div>` +
    `<div class="whole"><h3>${heading}</h3>${picture(selected, other)}` +
    (other ? said(other, "two") : "") + said(selected, other ? "one" : "") +
    `<div class="buttons"><button class="copy">Copy shape</button>` +
    `<button class="pin">${pinned ? "Stop comparing" : "Compare with…"}</button></div>` +
    (pinned && !other ? `<p class="hint">Select another shape to see both.</p>` : "") + `</div>`;
  panel.querySelector(".copy").addEventListener("click", (event) => copy(event.currentTarget));
  panel.querySelector(".pin").addEventListener("click", () => {
    pinned = pinned ? null : selected;
    show();
    panel.querySelector(".pin").focus();
  });
  panel.querySelector(".fold").addEventListener("click", () => {
    panel.classList.toggle("open");
    show();
    panel.querySelector(".fold").focus();
  });
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(selected.text);
  } catch {
    // Not allowed, or not for files: then as people do.
    const field = document.createElement("textarea");
    field.value = selected.text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy shape"; }, 1500);
}

// Wherever the selected shape is drawn or listed, it is marked.
function mark(shape) {
  const rows = [...document.querySelectorAll("tr[data-member]")];
  let tab = rows.find((row) => !row.hidden);
  for (const row of rows) {
    const same = page.members[row.dataset.member].text === shape.text;
    row.classList.toggle("selected", same);
    row.setAttribute("aria-selected", same);
    row.tabIndex = -1;
    if (same) tab = row;
  }
  if (tab) tab.tabIndex = 0;
  const { text } = colours();
  for (const [id, { element, points }] of plots) {
    if (page.columns[id]) {
      const at = page.columns[id].findIndex((column) => column.text === shape.text);
      const frame = { type: "rect", x0: at - 0.5, x1: at + 0.5, yref: "paper", y0: 0, y1: 1,
        line: { color: text, width: 2 } };
      Plotly.relayout(element, { shapes: at < 0 ? [] : [frame] });
    } else if (points) {
      const last = element.data.length - 1;
      const place = element.data.slice(0, last).filter(selectable).map((trace) => {
        const at = trace.customdata.findIndex((data) => data[0] === shape.text);
        return at < 0 ? null : [trace.x[at], trace.y[at]];
      }).find(Boolean);
      Plotly.restyle(element, { x: [place ? [place[0]] : []], y: [place ? [place[1]] : []],
        "marker.color": text }, [last]);
    }
  }
}
