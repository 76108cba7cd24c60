// After a form, the browser goes to the button that was pressed. This also lets the button stay at
// the same height of the screen, so that nothing seems to move. The page works without it.

addEventListener("submit", ({ submitter }) => {
  if (submitter?.id) {
    const top = submitter.getBoundingClientRect().top;
    sessionStorage.setItem("pressed", JSON.stringify([submitter.id, top]));
  }
});

addEventListener("load", () => {
  const [id, top] = JSON.parse(sessionStorage.getItem("pressed") ?? "[]");
  sessionStorage.removeItem("pressed");
  const button = id && document.getElementById(id);
  if (button) scrollBy(0, button.getBoundingClientRect().top - top);
});
