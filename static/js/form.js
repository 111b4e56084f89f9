// What every form has: the reader is led to what is wrong, and sees that a venue is being asked.

const wrong = document.querySelector("[aria-invalid=true]") ?? document.querySelector("main .alert");
wrong?.focus();

const asking = new Map(); // buttons that say so, and what they said before

document.addEventListener("submit", ({ target: form, submitter }) => {
  const words = submitter?.dataset.asking;
  if (!words || asking.has(submitter)) return;
  asking.set(submitter, submitter.textContent);
  submitter.textContent = words;
  form.setAttribute("aria-busy", "true");
});

// The back button brings a page as it was left.
addEventListener("pageshow", () => {
  for (const [button, text] of asking) {
    button.textContent = text;
    button.form.removeAttribute("aria-busy");
  }
  asking.clear();
});
