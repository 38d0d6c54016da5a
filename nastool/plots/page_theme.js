"use strict";
// Runs before anything is shown, so that no page flashes in the other colours.
const system = matchMedia("(prefers-color-scheme: dark)");

// A browser may keep nothing for pages that are files.
function kept(name, value, place = "localStorage") {
  try {
    if (value === undefined) return window[place].getItem(name);
    window[place].setItem(name, value);
  } catch { /* then it is not kept */ }
  return null;
}

// Until the window is closed.
function recalled(name, value) {
  return kept(name, value, "sessionStorage");
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

const chosen = kept("nastool-theme");
setTheme(chosen || (system.matches ? "dark" : "light"));
