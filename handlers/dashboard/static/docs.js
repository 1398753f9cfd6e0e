"use strict";
// Tries the calls of the API's page. The key stays in this page: it is kept nowhere.
const key = document.getElementById("key");
const show = (element, text) => { element.hidden = false; if (text !== undefined) element.textContent = text; };

async function attempt(event) {
  event.preventDefault();
  const form = event.target;
  const headers = {}, query = new URLSearchParams();
  let path = form.dataset.path;
  for (const field of form.querySelectorAll("[data-in]")) {
    const value = field.value.trim();
    if (field.dataset.in === "path") path = path.replace(`{${field.name}}`, encodeURIComponent(value));
    else if (value && field.dataset.in === "query") query.set(field.name, value);
    else if (value) headers[field.name] = value;
  }
  if (key.value.trim()) headers["X-API-Key"] = key.value.trim();
  if (form.elements.accept) headers.Accept = form.elements.accept.value;
  const body = form.elements.body;
  if (body) headers["Content-Type"] = body.dataset.kind;
  const address = query.size ? `${path}?${query}` : path;
  const place = form.querySelector(".answer");
  try {
    const answer = await fetch(address, {
      method: form.dataset.method, headers, body: body ? body.value : undefined, credentials: "omit", cache: "no-store",
    });
    const told = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    let text = await answer.text();
    if ((answer.headers.get("Content-Type") || "").startsWith("application/json")) {
      // numbers are shown as they came: parsing would round large ones
      text = text.replace(/([{,[])(?=")/g, "$1\n");
    }
    show(place, `${form.dataset.method} ${address}\n${answer.status} ${answer.statusText}\n${told}\n\n${text}`);
  } catch (error) {
    show(place, `The witness did not answer: ${error.message}`);
  }
}

show(document.getElementById("key-form"));
document.getElementById("key-form").addEventListener("submit", (event) => event.preventDefault());
for (const form of document.querySelectorAll("form.try")) {
  show(form.querySelector("button"));
  form.addEventListener("submit", attempt);
}
