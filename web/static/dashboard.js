"use strict";
// Puts the newest dashboard in place when the server says that it changed, and every 30 seconds for the times on it.
let busy = false;

async function renew() {
  const chosen = document.getSelection();
  if (busy || document.hidden || (chosen && !chosen.isCollapsed)) return;
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = page.querySelector("main");
    if (!main) return;
    const focused = document.activeElement?.getAttribute("href");
    document.querySelector("main").replaceWith(document.adoptNode(main));
    document.title = page.title;
    document.querySelector("link[rel=icon]").href = page.querySelector("link[rel=icon]").getAttribute("href");
    if (focused) document.querySelector(`main a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  } catch {
    document.title = "✗ server not reached | Kasparro ETL";
  } finally {
    busy = false;
  }
}

let seen = null;
let stream = null;

function listen() {
  stream = new EventSource("/events");
  stream.onmessage = (event) => {
    if (seen !== null && event.data !== seen) renew();
    seen = event.data;
  };
}

listen();
setInterval(() => {
  renew();
  if (stream.readyState === EventSource.CLOSED) listen();
}, 30000);
document.addEventListener("visibilitychange", renew);
