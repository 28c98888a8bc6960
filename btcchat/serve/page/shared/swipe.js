// <image-swipe label="..."> holds two figures of one place, one over the other; a slider sets how much of each is visible.
// The slider is an <input type=range>: a mouse, a finger, the arrow keys and a screen reader move it.
const SVG = "http://www.w3.org/2000/svg";
const ARROWS = "M14 12l-6 6 6 6M22 12l6 6-6 6";

class ImageSwipe extends HTMLElement {
  connectedCallback() {
    if (this.querySelector(":scope > input")) return; // the element was only moved
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: 0, max: 100, step: "any", value: 50 });
    slider.setAttribute("aria-label", this.getAttribute("label") || "Swipe between the two images");
    slider.addEventListener("input", () => this.show(Number(slider.value)));
    const knob = document.createElementNS(SVG, "svg");
    knob.setAttribute("viewBox", "0 0 36 36");
    knob.setAttribute("aria-hidden", "true");
    knob.append(document.createElementNS(SVG, "path"));
    knob.firstChild.setAttribute("d", ARROWS);
    this.append(slider, knob);
    this.show(50);
  }

  // at: the position of the divider in percent of the width; the first image is left of it, the second right of it.
  show(at) {
    const slider = this.querySelector(":scope > input");
    const [left, right] = [...this.querySelectorAll("figcaption")].map((caption) => caption.textContent);
    slider.value = at;
    slider.setAttribute("aria-valuetext", `${Math.round(at)} % ${left}, ${100 - Math.round(at)} % ${right}`);
    this.style.setProperty("--at", `${at}%`);
  }
}

customElements.define("image-swipe", ImageSwipe);
