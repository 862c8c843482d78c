// The page of a run: its filters and the larger view of a person. Everything it shows is in the page.

const list = byId("people"), dialog = byId("detail"), form = byId("filters");
const everyone = [...list.children].map((item) => ({
  item,
  link: item.querySelector("a"),
  picture: item.dataset.picture,
  confidence: Number(item.dataset.confidence),
  text: `${item.dataset.stem} ${item.dataset.picture}`.normalize("NFC").toLowerCase(),
}));
const figures = [...document.querySelectorAll("#pictures figure")];
let ordered = everyone, orderedBy = "file", shown = everyone;

// ------------------------------------------------------------------------------------------------ filters

function applyFilters() {
  const find = form.find.value.normalize("NFC").trim().toLowerCase(), lowest = Number(form.confidence.value);
  const fits = (person) => person.text.includes(find) && person.confidence >= lowest &&
    !(form.several.checked && peopleIn.get(person.picture) < 2);
  if (form.sort.value !== orderedBy) {
    orderedBy = form.sort.value;
    const sign = { file: 0, best: -1, worst: 1 }[orderedBy];
    ordered = [...everyone].sort((a, b) => sign * (a.confidence - b.confidence)); // the files' order among equals
    for (const person of ordered) list.append(person.item);
  }
  shown = ordered.filter(fits);
  for (const person of everyone) person.item.hidden = true;
  for (const person of shown) person.item.hidden = false;
  list.dataset.look = form.show.value;
  const pictures = new Set(shown.map((person) => person.picture));
  for (const figure of figures) figure.hidden = !pictures.has(figure.dataset.picture);
  const nothing = figures.every((figure) => figure.hidden);
  for (const part of document.querySelectorAll("#all-pictures, [href='#all-pictures']")) part.hidden = nothing;
  form.querySelector("output").textContent = lowest.toFixed(2);
  byId("count").textContent = `${shown.length} of ${everyone.length} people`;
  byId("nobody").hidden = shown.length > 0;
  byId("clear").hidden = shown.length === everyone.length;
}

const peopleIn = new Map();
for (const { picture } of everyone) peopleIn.set(picture, (peopleIn.get(picture) || 0) + 1);

if (form) {
  const useful = {
    confidences: everyone.some((person) => person.confidence !== everyone[0].confidence),
    several: peopleIn.size > 1 && [...peopleIn.values()].some((count) => count > 1),
  };
  for (const label of form.querySelectorAll("[data-needs]")) label.hidden = !useful[label.dataset.needs];
  // index.html?find=name&confidence=0.5&sort=best&show=iuv&several=1 opens the page filtered.
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = form.elements.namedItem(name);
    if (field?.type === "checkbox") field.checked = value === "1";
    else if (field?.name) field.value = value;
  }
  form.addEventListener("input", applyFilters);
  form.addEventListener("reset", () => setTimeout(applyFilters)); // fields are empty after this event
  form.addEventListener("submit", (event) => event.preventDefault());
  applyFilters();
}

// ------------------------------------------------------------------------------------------------ a person

function show(person, angles) {
  const { item, link, picture } = person, panel = link.querySelector("img");
  byId("person-name").textContent = item.dataset.stem;
  byId("about").replaceChildren(item.querySelector("template").content.cloneNode(true));
  for (const id of ["backdrop", "panel"]) byId(id).src = panel.src;
  byId("panel").alt = `Result of ${item.dataset.stem}`;
  const full = figures.find((figure) => figure.dataset.picture === picture), everybody = byId("everybody");
  everybody.hidden = !full;
  if (full) everybody.querySelector("img").src = full.querySelector("img").src;
  const place = shown.indexOf(person);
  byId("position").textContent = place < 0 ? "" : `${place + 1} of ${shown.length}`;
  byId("previous").disabled = place <= 0;
  byId("next").disabled = place < 0 || place === shown.length - 1;
  body = readBody(item.querySelector("script").textContent);
  if (!dialog.open) dialog.showModal();
  resetView(...angles.map((degrees) => degrees * Math.PI / 180));
}

// The address says who is shown: #stem, or #stem&turn=60,-10 with the body turned (degrees).
function route() {
  const [name, degrees = "0,0"] = location.hash.split("&turn=");
  const person = everyone.find(({ link }) => link.hash === name);
  if (person) show(person, degrees.split(",").map((text) => Number(text) || 0));
  else dialog.close();
}

function step(by) {
  const next = shown[shown.findIndex(({ link }) => link.hash === location.hash.split("&turn=")[0]) + by];
  if (next) location.replace(next.link.hash);
}

const KEYS = {
  "ArrowLeft": () => step(-1), "ArrowRight": () => step(1),
  "Shift ArrowLeft": () => turn(-0.1, 0), "Shift ArrowRight": () => turn(0.1, 0),
  "Shift ArrowUp": () => turn(0, -0.1), "Shift ArrowDown": () => turn(0, 0.1),
  "0": () => resetView(),
  "+": () => zoomAt(1.2, canvas.clientWidth / 2, canvas.clientWidth / 2),
  "-": () => zoomAt(1 / 1.2, canvas.clientWidth / 2, canvas.clientWidth / 2),
};
dialog.addEventListener("keydown", (event) => {
  const act = KEYS[(event.shiftKey && event.key.startsWith("Arrow") ? "Shift " : "") + event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
});
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside the sheet
dialog.addEventListener("close", () => dialog.open || history.replaceState(null, "", "#"));
addEventListener("hashchange", route);
route();
