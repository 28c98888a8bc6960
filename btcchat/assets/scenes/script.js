// The tiles of a run: picked in the picture or in the table, which is sorted by a click on a column's name.
const $ = (selector, root = document) => [...root.querySelectorAll(selector)];
const [table] = $("#tiles");
const [tools] = $(".tools");
const rows = $("tbody tr", table);

function pick(tile) {
  for (const each of $("[data-tile]")) each.classList.toggle("picked", each.dataset.tile === tile);
  const row = rows.find((each) => each.dataset.tile === tile);
  const picked = document.getElementById("picked");
  const heads = $("th", table).map((head) => head.textContent);
  picked.replaceChildren();
  [...row.cells].forEach((cell, number) => {
    const part = document.createElement(heads[number] === "caption" ? "strong" : "span");
    part.append(`${heads[number] === "caption" ? "" : `${heads[number]} `}`, ...[...cell.childNodes].map((node) => node.cloneNode(true)), " ");
    picked.append(part);
  });
  history.replaceState(null, "", `#tile=${tile}`);
}

function value(row, column) {
  const text = row.cells[column].textContent;
  const number = parseFloat(text);
  return Number.isNaN(number) ? text : number;
}

function sort(column) {
  const down = table.dataset.sorted === `${column}`;
  table.dataset.sorted = down ? "" : `${column}`;
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0) * (down ? 1 : -1);
  const number = (one) => (typeof one === "number" ? 1 : 0); // empty cells and texts are apart from numbers
  rows.sort((a, b) => {
    const [first, second] = [value(a, column), value(b, column)];
    return number(first) === number(second) ? order(first, second) : number(second) - number(first);
  });
  table.tBodies[0].append(...rows);
}

for (const each of $("[data-tile]")) {
  each.addEventListener("click", (event) => event.target.closest("a") || pick(each.dataset.tile));
  each.addEventListener("keydown", (event) => event.key === "Enter" && pick(each.dataset.tile));
}
$("th button", table).forEach((button, column) => button.addEventListener("click", () => sort(column)));
document.getElementById("find").addEventListener("input", (event) => {
  const text = event.target.value.toLowerCase();
  for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(text);
});
tools.addEventListener("input", () => {
  document.body.classList.toggle("picking", tools.mode.value === "tiles");
  $(".map > .change")[0].style.opacity = tools.strength.value / 100;
});
document.body.classList.add("picking");
for (const button of $(".strip input")) {
  button.addEventListener("change", () => {
    const from = $("figure", button.closest(".strip"))[button.value];
    const to = $(".map image-swipe figure")[button.name === "left" ? 0 : 1];
    $("img", to)[0].src = $("img", from)[0].src;
    $("figcaption", to)[0].textContent = $("figcaption", from)[0].textContent;
  });
}
const asked = new URLSearchParams(location.hash.slice(1)).get("tile");
if (rows.some((row) => row.dataset.tile === asked)) pick(asked);
