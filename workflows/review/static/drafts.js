// What a reader has typed and not yet signed, kept for this tab: a reload or a lost connection loses nothing.
// Passwords never come here.

const PREFIX = "histograde.draft.";

export function keep(name, value) {
  try {
    if (value === null) sessionStorage.removeItem(PREFIX + name);
    else sessionStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // A browser without storage, or a full one: the page still works, it only forgets on a reload.
  }
}

export function kept(name) {
  try {
    return JSON.parse(sessionStorage.getItem(PREFIX + name));
  } catch {
    return null;
  }
}

// Choices of the reader that outlast the tab: map, opacity, what is drawn over the slide.
export function prefer(name, value) {
  try {
    localStorage.setItem(`histograde.${name}`, JSON.stringify(value));
  } catch {
    // As above.
  }
}

export function preferred(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`histograde.${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}
