// Sorts and filters the table of all cells. Without it the page is the same, and the table a plain one.
(function () {
  "use strict";
  const table = document.getElementById("cells");
  const body = table.tBodies[0];
  const headers = Array.from(table.tHead.rows[0].cells);
  const rows = Array.from(body.rows).map(function (row, place) {
    return { row: row, place: place, text: row.textContent.toLowerCase() };
  });
  const filter = document.getElementById("filter");
  const chosenOnly = document.getElementById("chosen-only");
  const count = document.getElementById("count");

  function keyOf(row, column, isNumber) {
    const cell = row.cells[column];
    if (isNumber) {
      return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
    }
    return cell.textContent.trim();
  }

  function sortBy(column) {
    const header = headers[column];
    const isNumber = header.dataset.sort === "number";
    // Numbers begin with the largest: the best accuracy is what one looks for.
    const first = isNumber ? "descending" : "ascending";
    const other = isNumber ? "ascending" : "descending";
    const order = header.getAttribute("aria-sort") === first ? other : first;
    headers.forEach(function (each) { each.removeAttribute("aria-sort"); });
    header.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const collator = new Intl.Collator(undefined, { numeric: true });
    rows.forEach(function (each) { each.key = keyOf(each.row, column, isNumber); });
    rows.sort(function (a, b) {
      // What has no number stays below, either way round.
      if (a.key === null || b.key === null) {
        return (a.key === null) - (b.key === null) || a.place - b.place;
      }
      const difference = isNumber ? a.key - b.key : collator.compare(a.key, b.key);
      return sign * difference || a.place - b.place;
    });
    body.append.apply(body, rows.map(function (each) { return each.row; }));
  }

  function showMatching() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach(function (each) {
      const fits = words.every(function (word) { return each.text.includes(word); });
      each.row.hidden = !fits || (chosenOnly.checked && !each.row.classList.contains("chosen"));
      shown += each.row.hidden ? 0 : 1;
    });
    count.textContent = shown + " of " + rows.length + " rows";
  }

  const buttons = headers.map(function (header, column) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", function () { sortBy(column); });
    header.replaceChildren(button);
    return button;
  });
  filter.addEventListener("input", showMatching);
  chosenOnly.addEventListener("change", showMatching);
  document.getElementById("controls").hidden = false;
  // A browser that comes back to the page keeps what was typed.
  showMatching();

  // A figure that is moved sideways can be moved by keyboard; the others are no stops on the way.
  function letFocus() {
    document.querySelectorAll(".canvas").forEach(function (canvas) {
      if (canvas.scrollWidth > canvas.clientWidth) {
        canvas.tabIndex = 0;
      } else {
        canvas.removeAttribute("tabindex");
      }
    });
  }
  window.addEventListener("resize", letFocus);
  letFocus();

  const closed = [];
  window.addEventListener("beforeprint", function () {
    // Headers are printed again on every page, but not the buttons in them.
    headers.forEach(function (header, column) { header.replaceChildren(buttons[column].textContent); });
    document.querySelectorAll("details:not([open])").forEach(function (details) {
      details.open = true;
      closed.push(details);
    });
  });
  window.addEventListener("afterprint", function () {
    headers.forEach(function (header, column) { header.replaceChildren(buttons[column]); });
    closed.splice(0).forEach(function (details) { details.open = false; });
  });
})();
