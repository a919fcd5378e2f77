// The page asks the routes of /v1 like anybody else: what it shows, curl can have.

import { Slot } from "/page/slot.js";

const find = (id) => document.getElementById(id);
const first = new Slot(find("slot"), find("canvas"), find("file"), find("clear"));
const second = new Slot(find("other-slot"), find("other-canvas"), find("other-file"), find("other-clear"));
let models = [];

async function ask(route, body) {
  const headers = { "Content-Type": "application/json" };
  if (find("token").value) headers.Authorization = `Bearer ${find("token").value}`;
  const options = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(route, options);
  } catch {
    throw new Error("The server does not answer.");
  }
  if (response.status === 401) find("token-label").hidden = false;
  const found = await response.json().catch(() => ({ error: `The server answered ${response.status}.` }));
  if (!response.ok) throw new Error(found.error);
  return found;
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function chosen() {
  return models.find((model) => model.name === find("model").value);
}

function choose() {
  const model = chosen();
  find("texts").hidden = model.kind !== "texts";
  find("pictures").hidden = model.kind !== "pictures";
  find("numbers").hidden = model.kind !== "features" && model.kind !== "sparse";
  find("other-slot").hidden = !model.verifies;
  find("search-hint").hidden = !model.gallery;
  find("slot-name").textContent = model.verifies ? "First picture" : "Picture";
  find("top-label").hidden = !model.predicts && !model.gallery;
  find("top").max = model.predicts ? model.max_top_k : 100;
  find("top").value = Math.min(5, find("top").max);
  const example = model.kind === "sparse" ? '{"indices": [0, 7], "values": [0.5, 1.2]}' : `[${model.input_shape} numbers]`;
  find("json").placeholder = example;
  const digits = model.head_sizes.length > 1 ? ` in digits of ${model.head_sizes.join(" × ")}` : "";
  const known = model.gallery ? `, ${model.gallery.toLocaleString("en")} people in the gallery` : "";
  find("about").textContent = model.verifies
    ? `Compares faces by ${model.features_dim} features${known}.`
    : `${model.num_classes.toLocaleString("en")} classes, head ${model.head}${digits}.`;
  find("answer").hidden = true;
}

function input(model) {
  if (model.kind === "texts") {
    if (!find("text").value.trim()) throw new Error("There is no text yet.");
    return find("text").value;
  }
  if (model.kind === "pictures") {
    if (first.empty) throw new Error("There is no picture yet.");
    return first.base64();
  }
  try {
    return JSON.parse(find("json").value);
  } catch {
    throw new Error("The features are not JSON.");
  }
}

// What a class is taken for most easily; asked when it is opened.
function neighbours(model, row) {
  const details = element("details");
  const list = element("ul");
  details.append(element("summary", "Neighbours"), list);
  details.addEventListener("toggle", async () => {
    if (!details.open) return;
    const query = new URLSearchParams({ model: model.name, id: row.id });
    try {
      const near = await ask(`/v1/neighbours?${query}`);
      list.replaceChildren(...near.map((one) => element("li", `${one.label}, cosine ${one.score.toFixed(2)}`)));
    } catch (error) {
      list.replaceChildren(element("li", error.message, "error"));
    }
  });
  return details;
}

function ranking(rows, say, model) {
  const list = element("ol");
  for (const row of rows) {
    const item = element("li");
    const bar = element("progress");
    bar.max = 1;
    bar.value = Math.max(0, row.score);
    bar.setAttribute("aria-hidden", "true");
    item.append(bar, element("span", row.label), element("span", say(row.score), "score"));
    if (row.digits && row.digits.length > 1) item.append(element("span", `digits ${row.digits.join(" › ")}`, "digits"));
    if (model) item.append(neighbours(model, row));
    list.append(item);
  }
  return rows.length ? list : element("p", "Nothing reaches the threshold.");
}

async function answered(model) {
  const top_k = Number(find("top").value) || 5;
  if (model.predicts) {
    const body = { model: model.name, inputs: [await input(model)], top_k, digits: true };
    const [rows] = await ask("/v1/predict", body);
    return [ranking(rows, (score) => `${(100 * score).toFixed(score < 0.01 ? 2 : 1)} %`, model)];
  }
  const picture = await input(model);
  const parts = [];
  if (!second.empty) {
    const found = await ask("/v1/verify", { model: model.name, inputs: [picture, await second.base64()] });
    parts.push(element("p", found.same ? "The same" : "Not the same", found.same ? "verdict same" : "verdict different"));
    parts.push(element("p", `Cosine ${found.similarity.toFixed(3)}, the same from ${found.threshold.toFixed(3)} on.`));
  }
  if (model.gallery) {
    const [rows] = await ask("/v1/search", { model: model.name, inputs: [picture], top_k });
    parts.push(element("h2", "In the gallery"), ranking(rows, (score) => score.toFixed(3)));
  }
  if (!parts.length) throw new Error("There is no second picture yet.");
  return parts;
}

find("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = find("answer");
  find("ask").disabled = true;
  // Shown before it is filled, so that it is read out.
  answer.replaceChildren();
  answer.hidden = false;
  try {
    answer.replaceChildren(...(await answered(chosen())));
  } catch (error) {
    answer.replaceChildren(element("p", error.message, "error"));
  }
  find("ask").disabled = false;
});

for (const id of ["text", "json"]) {
  find(id).addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("form").requestSubmit();
  });
}

async function start() {
  try {
    models = await ask("/v1/models");
  } catch (error) {
    find("about").textContent = error.message;
    return;
  }
  find("model").replaceChildren(...models.map((model) => element("option", model.name)));
  choose();
  find("ask").disabled = false;
}

find("model").addEventListener("change", choose);
find("token").addEventListener("change", start);
start();
