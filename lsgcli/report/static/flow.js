// Points at a layer in all pictures at once, and tells a mark's value. The page says everything without it, too.
"use strict";
const tip = Object.assign(document.createElement("div"), { id: "tip", hidden: true });
document.body.append(tip);
for (const title of document.querySelectorAll("svg title")) {
  const mark = title.parentNode.dataset;
  mark.tip = title.textContent; // instead of the browser's own, which comes late and not by touch
  const layer = /^layer (\d+)\b/.exec(mark.tip);
  if (layer) mark.layer = layer[1];
  title.remove();
}

function point(target, x, y) {
  const layer = target?.closest?.("[data-layer]")?.dataset.layer;
  for (const mark of document.querySelectorAll("[data-layer]")) mark.classList.toggle("on", mark.dataset.layer === layer);
  const text = target?.closest?.("[data-tip]")?.dataset.tip;
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(x + 12, innerWidth - box.width - 4)) + "px";
  tip.style.top = (y + 18 + box.height < innerHeight ? y + 18 : y - box.height - 12) + "px";
}

document.addEventListener("pointermove", (event) => event.pointerType === "mouse" && point(event.target, event.clientX, event.clientY));
document.addEventListener("click", (event) => point(event.target, event.clientX, event.clientY));
document.addEventListener("focusin", (event) => point(event.target, 0, 0));
document.addEventListener("keydown", (event) => event.key === "Escape" && point(null));
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
