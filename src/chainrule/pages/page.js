// On paper everything is open, but for long tables of numbers.
const ROWS = 30;
window.addEventListener("beforeprint", () => {
  for (const d of document.querySelectorAll("details:not([open])")) {
    if (d.querySelectorAll("tr").length > ROWS) continue;
    d.open = true;
    d.dataset.printed = "";
  }
});
window.addEventListener("afterprint", () => {
  for (const d of document.querySelectorAll("details[data-printed]")) {
    d.open = false;
    delete d.dataset.printed;
  }
});
