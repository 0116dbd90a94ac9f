"use strict";
const cellssl = {};  // what the parts of the page offer each other
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], sorts = [];
  heads.forEach((head, column) => {
    if ("unsorted" in head.dataset) return;
    const button = document.createElement("span");  // Chromium prints no <button> in a head that is repeated
    button.setAttribute("role", "button");
    button.tabIndex = 0;
    button.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      button.click();
    });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(head.getAttribute("aria-sort") === "ascending"));
    const sort = down => {
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const number = head.classList.contains("number");
      const key = row => {
        const text = row.cells[column].textContent;
        return number ? parseFloat(text.replaceAll(",", "").replace("\u2212", "-")) : text;
      };
      const compare = (a, b) => {
        if (!number) return a.localeCompare(b, "en", {numeric: true});
        if (isNaN(a) || isNaN(b)) return (isNaN(a) - isNaN(b)) * (down ? -1 : 1);
        return a - b;
      };
      const rows = [...body.rows].sort((a, b) => compare(key(a), key(b)) * (down ? -1 : 1));
      body.append(...rows);
    };
    const name = head.textContent.trim() || `column ${column + 1}`;
    sorts.push([`${name}, upwards`, () => sort(false)], [`${name}, downwards`, () => sort(true)]);
  });
  if (body.rows.length > 2 && sorts.length) {  // for narrow screens, where rows are cards and the heads are not seen
    const select = document.createElement("select"), label = document.createElement("label");
    select.append(new Option("as it is"), ...sorts.map(([text]) => new Option(text)));
    select.addEventListener("change", () => select.selectedIndex && sorts[select.selectedIndex - 1][1]());
    label.className = "sort-by";
    label.append("Sort by ", select);
    table.before(label);
  }
}
