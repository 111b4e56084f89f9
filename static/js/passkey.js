// Forms that go with a passkey: the browser asks for it when the form is sent, and its answer goes along.

const { create, get } = window.webauthnJSON;

const WORDS = {
  NotAllowedError: "No passkey was chosen, or the time was up. Nothing was changed: try again.",
  InvalidStateError: "This device or password manager has a passkey for you here already.",
  SecurityError: "Browsers give passkeys only over https, or at http://localhost.",
};

async function options(form) {
  if (form.dataset.options) return JSON.parse(document.getElementById(form.dataset.options).textContent);
  const answer = await fetch(form.dataset.url, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}

/** The new passkey has to be one that is found without a name, so that it signs in alone. */
function discoverable({ creation_options: known }) {
  const chosen = { ...known.publicKey.authenticatorSelection, residentKey: "required", requireResidentKey: true };
  return { ...known, publicKey: { ...known.publicKey, authenticatorSelection: chosen } };
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const alert = form.querySelector(".alert[hidden]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    alert.hidden = true;
    try {
      const known = await options(form);
      const answer = form.dataset.passkey === "create" ? create(discoverable(known)) : get(known.request_options);
      form.elements.credential.value = JSON.stringify(await answer);
      form.submit();
    } catch (fault) {
      alert.textContent = WORDS[fault.name] ?? "Your browser can't do this here. Try another browser, or sign in without a passkey.";
      alert.hidden = false;
    }
  });
}
