// Which samples are shown and in what order; the address after # keeps it: #show=changed&sort=1&find=road
const cards = [...document.querySelectorAll("article")].map((card) => ({
  card,
  is: card.dataset.is.split(" "),
  values: card.dataset.values.split(" ").map(Number),
  text: card.textContent.toLowerCase(),
}));
const form = document.querySelector("form");

function arrange() {
  const [show, sort, find] = [form.show.value, Number(form.sort.value), form.find.value.toLowerCase()];
  cards.sort((a, b) => a.values[sort] - b.values[sort] || a.values[0] - b.values[0]);
  let shown = 0;
  for (const { card, is, text } of cards) {
    card.hidden = !((show === "all" || is.includes(show)) && text.includes(find));
    shown += !card.hidden;
    card.parentNode.append(card);
  }
  document.getElementById("shown").textContent = `${shown} shown`;
}

function read() {
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const name of ["show", "sort", "find"]) {
    const options = [...(form[name].options || [])].map((option) => option.value);
    const value = asked.get(name);
    if (value !== null && (!options.length || options.includes(value))) form[name].value = value;
  }
  arrange();
}

form.addEventListener("input", () => {
  history.replaceState(null, "", "#" + new URLSearchParams(new FormData(form)));
  arrange();
});
form.addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", read);
read();
