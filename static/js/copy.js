// Buttons that copy a text that can also be selected by hand.

for (const button of document.querySelectorAll("button[data-copies]")) {
  if (!navigator.clipboard) continue; // not over plain http
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).value);
    button.textContent = "Copied";
  });
}
