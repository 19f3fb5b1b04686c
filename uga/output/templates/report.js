// Lays the overviews over the slide, with a slider. Without this script, and on paper, they lie side by side.
"use strict";
const figures = [...document.querySelectorAll(".overviews figure")];
const stage = document.getElementById("stage");
if (stage && figures.length > 1) {
  const [base, ...layers] = figures;
  const frame = base.querySelector(".frame").cloneNode(true);
  const over = layers[0].querySelector("img").cloneNode();
  over.className = "over";
  frame.querySelector("img").after(over);
  stage.querySelector(".place").append(frame);
  const slider = stage.querySelector("input[type=range]");
  const choices = stage.querySelector(".choices");
  const fade = () => {
    over.style.opacity = slider.value / 100;
  };
  layers.forEach((figure, index) => {
    const name = figure.querySelector("figcaption").textContent;
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), {
      type: "radio",
      name: "layer",
      checked: index === 0,
    });
    input.addEventListener("change", () => {
      over.src = figure.querySelector("img").src;
      over.alt = figure.querySelector("img").alt;
    });
    label.append(input, " ", name);
    choices.append(label);
  });
  slider.addEventListener("input", fade);
  stage.querySelector("input[type=checkbox]").addEventListener("change", (event) => {
    frame.classList.toggle("bare", !event.target.checked);
  });
  fade();
  stage.hidden = false;
  document.documentElement.classList.add("layered");
}
