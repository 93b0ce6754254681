// Makes the pages a little more comfortable. Everything works without it.
"use strict";

// Show a password, and hide it again before it is sent: password managers and
// browsers' histories of inputs go by the type.
for (const input of document.querySelectorAll("input[data-show]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "reveal";
  button.setAttribute("aria-controls", input.id);
  const set = shown => {
    input.type = shown ? "text" : "password";
    button.textContent = shown ? input.dataset.hide : input.dataset.show;
    button.setAttribute("aria-label", shown ? input.dataset.hideLabel : input.dataset.showLabel);
  };
  set(false);
  button.addEventListener("click", () => set(input.type === "password"));
  input.form.addEventListener("submit", () => set(false));
  addEventListener("pagehide", () => set(false));
  input.after(button);
}

// How long a new password is. How strong it is, only the gateway knows.
for (const input of document.querySelectorAll("input[data-min]")) {
  const least = Number(input.dataset.min);
  const meter = document.createElement("div");
  meter.className = "meter";
  const bar = document.createElement("progress");
  bar.max = least;
  bar.setAttribute("aria-hidden", "true");
  const words = document.createElement("span");
  words.setAttribute("aria-hidden", "true");
  const aloud = document.createElement("span"); // says it once, not at every key
  aloud.className = "aloud";
  aloud.setAttribute("role", "status");
  meter.append(bar, words, aloud);
  meter.classList.add("empty");
  input.parentElement.after(meter);
  input.addEventListener("input", () => {
    const length = [...input.value].length;
    const enough = length >= least;
    meter.classList.toggle("empty", length === 0);
    meter.classList.toggle("enough", enough);
    bar.value = Math.min(length, least);
    words.textContent = enough ? input.dataset.enough : input.dataset.more.replace("{n}", least - length);
    aloud.textContent = enough ? input.dataset.enough : "";
  });
}

// Times in the reader's own time zone, as written where the reader lives.
const page = document.documentElement.lang;
const locale = navigator.languages.find((l) => l === page || l.startsWith(page + "-")) || page;
for (const time of document.querySelectorAll("time[datetime]")) {
  const at = new Date(time.dateTime);
  if (Number.isNaN(at.getTime())) continue;
  const words = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }).format(at);
  if ("local" in time.dataset) time.textContent = words;
  else time.title = words;
}

for (const button of document.querySelectorAll("button[data-back]")) {
  if (history.length < 2) continue;
  button.hidden = false;
  button.addEventListener("click", () => history.back());
}
