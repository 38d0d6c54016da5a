function sortable(table) {
  const body = table.tBodies[0], headers = table.querySelectorAll("th");
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const falling = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value;
      // What is not known comes last.
      const number = (row) => (["nan", ""].includes(key(row)) ? Infinity : +key(row));
      const numeric = [...body.rows].every((row) => !Number.isNaN(number(row)));
      // Equal ones stay as they are: subtracting two infinite values gives no number.
      const compare = (a, b) => (numeric ? Math.sign(number(a) - number(b)) || 0
        : key(a).localeCompare(key(b), undefined, { numeric: true }));
      [...body.rows].sort((a, b) => (falling ? -1 : 1) * compare(a, b))
        .forEach((row) => body.append(row));
    });
  });
}

// The rows that are shown, as they are sorted; values as they are, not as they are written.
function csv(table) {
  const cell = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const head = [...table.tHead.rows[0].cells].map((c) => c.textContent);
  const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden)
    .map((row) => [...row.cells].map((c) => c.dataset.value));
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Rows of shapes are one stop of the Tab key; arrows go on from there.
function reachable(table) {
  const rows = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
  for (const row of table.tBodies[0].rows) {
    const member = page.members[row.dataset.member];
    row.tabIndex = -1;
    row.addEventListener("click", () => select(member));
    row.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) {
        const all = rows();
        const next = all[all.indexOf(row) + step];
        if (next) { next.focus(); select(page.members[next.dataset.member]); }
      } else if (["Enter", " "].includes(event.key)) select(member);
      else return;
      event.preventDefault();
    });
  }
}

function tables() {
  for (const table of document.querySelectorAll("table")) {
    sortable(table);
    if (table.closest(".members")) reachable(table);
  }
  for (const button of document.querySelectorAll("button.save")) {
    button.title = "Save this table as a CSV file";
    button.addEventListener("click", () => {
      const name = button.dataset.table;
      save(`${name}.csv`, csv(document.getElementById(name)));
    });
  }
}
