// What the pages do beyond HTML: they refresh themselves, keep times right, and sort and filter tables.
"use strict";
const EVERY_MS = 10000;
const live = document.body.hasAttribute("data-live");
let version = document.querySelector("meta[name=version]").content;
let sorted = {}; // by table: the column and its direction

function span(seconds) { // as handlers/words.py says it
  const units = [["s", 1, 90], ["min", 60, 90 * 60], ["h", 3600, 48 * 3600]];
  for (const [unit, length, until] of units) if (seconds < until) return `${Math.floor(seconds / length)} ${unit}`;
  return `${Math.floor(seconds / 86400)} days`;
}

function tell_times() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const words = span(Math.max(0, (Date.now() - Date.parse(time.dateTime)) / 1000));
    const text = time.className === "ago" ? `${words} ago` : words;
    if (time.textContent !== text) time.textContent = text;
  }
}

// --- refreshing: the same page again, which is a 304 when nothing changed ---

function is_busy() { // nobody is interrupted while typing or selecting
  const at = document.activeElement;
  return document.hidden || (at && at.matches("main input, main select, main textarea")) || !getSelection().isCollapsed;
}

async function refresh() {
  if (is_busy()) return;
  try {
    const answer = await fetch(location.href, { headers: { "If-None-Match": version }, cache: "no-store" });
    if (answer.redirected) return location.reload(); // signed out
    if (answer.status === 200) replace(await answer.text(), answer.headers.get("ETag"));
    else if (answer.status !== 304) throw new Error(`status ${answer.status}`);
    say_stale("");
  } catch (error) {
    say_stale("The witness does not answer. What stands here may be out of date.");
  }
}

function replace(html, tag) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const main = document.getElementById("main");
  const open = [...main.querySelectorAll("details[open][id]")].map((each) => each.id);
  const held = document.activeElement;
  const way = main.contains(held) ? held.getAttribute("href") : null;
  main.innerHTML = fresh.getElementById("main").innerHTML;
  version = tag || version;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (way) [...main.querySelectorAll("a")].find((each) => each.getAttribute("href") === way)?.focus({ preventScroll: true });
  prepare();
}

function say_stale(words) {
  const place = document.getElementById("stale");
  if (place.textContent !== words) place.textContent = words;
  place.hidden = !words;
}

// --- tables ---

function prepare() {
  for (const table of document.querySelectorAll("table[data-sortable]")) make_sortable(table);
  for (const input of document.querySelectorAll("input[data-filter]")) {
    input.oninput = () => filter(input);
    if (input.value !== input.defaultValue) filter(input);
  }
  tell_times();
}

function make_sortable(table) {
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    if (cell.querySelector("a")) return; // its heading leads somewhere already
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    button.onclick = () => sort(table, column, cell.getAttribute("aria-sort") !== "ascending");
    cell.append(button);
  });
  const before = sorted[table.id];
  if (before) sort(table, before.column, before.up);
}

function value_of(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.sort ?? cell.textContent.trim();
  return text !== "" && !isNaN(text) ? Number(text) : text;
}

function sort(table, column, up) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [value_of(row, column), row]);
  rows.sort(([a], [b]) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1) * (up ? 1 : -1));
  body.append(...rows.map(([, row]) => row));
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  table.tHead.rows[0].cells[column].setAttribute("aria-sort", up ? "ascending" : "descending");
  sorted[table.id] = { column, up };
}

function filter(input) { // what the page holds, at once; Enter asks the server, which has all of it
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of document.getElementById(input.dataset.filter)?.tBodies[0].rows ?? []) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
}

prepare();
setInterval(tell_times, 5000);
if (live) setInterval(refresh, EVERY_MS);
