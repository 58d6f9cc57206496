// SPDX-License-Identifier: MIT
// The gallery: the checked picture is the head; a drawn one gets the last place.

const drawn = element.querySelector(".ft-drawn");
element.addEventListener("change", (event) => {
  props.value = { head: event.target.value, picture: props.value.picture };
});
function show() {
  const { head, picture } = props.value;
  if (picture && head.startsWith("random:")) {
    drawn.hidden = false;
    drawn.querySelector("input").value = head;
    drawn.querySelector("input").setAttribute("aria-label", "Random head " + head.slice(7));
    drawn.querySelector("span").style.backgroundImage = `url(${picture})`;
  }
  const tile = [...element.querySelectorAll("input")].find((input) => input.value === head);
  if (tile) tile.checked = true;
}
watch("value", show);
show();
