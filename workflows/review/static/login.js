// The sign-in form: sends name and password, and goes back to the page from where the reader came.

const form = document.getElementById("sign-in");
const said = document.getElementById("said");
const button = form.querySelector("button");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  said.textContent = "";
  const problem = await signIn(form.elements.name.value, form.elements.password.value);
  if (problem === null) {
    location.replace(wayBack());
    return;
  }
  said.textContent = problem;
  button.disabled = false;
  form.elements.password.select();
});

// What went wrong in one line, or null.
async function signIn(name, password) {
  try {
    const answer = await fetch("/api/login", {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ name, password }),
    });
    if (answer.ok) return null;
    return (await answer.json()).error;
  } catch {
    return "The desk does not answer. Is it still open?";
  }
}

// Only ever a page of this desk: an address elsewhere in ?next= leads to the worklist.
function wayBack() {
  const next = new URL(new URLSearchParams(location.search).get("next") ?? "/", location.origin);
  return next.origin === location.origin ? next.pathname + next.search : "/";
}
