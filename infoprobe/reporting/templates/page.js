"use strict";
(() => {
  const table = document.querySelector(".ip-rows");
  if (!table) return;
  const body = table.tBodies[0];
  const original = [...body.rows];

  // Sorting: a click on a head sorts up, the next one down, the third restores the order.
  const heads = [...table.tHead.querySelectorAll("th[scope=col]")];
  const column = new Map();
  const fixed = heads.filter((head) => head.parentNode === table.tHead.rows[0]);
  heads.forEach((head, i) => column.set(head, i));
  if (table.tHead.rows.length > 1) {
    [...table.tHead.rows[1].cells].forEach((head, i) => column.set(head, fixed.length + i));
  }
  const key = (row, i) => {
    const cell = row.cells[i];
    const value = "value" in cell.dataset ? cell.dataset.value : cell.textContent;
    const number = Number(value.replaceAll(",", ""));
    return value.trim() === "" || Number.isNaN(number) ? value : number;
  };
  const compare = (a, b) => {
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
  };
  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const order = next[head.getAttribute("aria-sort") || "none"];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (order !== "none") head.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const i = column.get(head);
      const rows = order === "none" ? original
        : [...original].sort((a, b) => sign * compare(key(a, i), key(b, i)));
      body.append(...rows);
    });
  }

  // Filtering by the name and the type of the layer.
  const filter = document.getElementById("ip-filter");
  const shown = document.getElementById("ip-shown");
  filter.addEventListener("input", () => {
    const text = filter.value.toLowerCase();
    let count = 0;
    for (const row of original) {
      const name = `${row.cells[0].textContent} ${row.cells[1].textContent}`.toLowerCase();
      row.hidden = !name.includes(text);
      count += row.hidden ? 0 : 1;
    }
    shown.textContent = text ? `${count} of ${original.length}` : "";
  });

  // A link to a finding opens it.
  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", open);
  open();
})();
