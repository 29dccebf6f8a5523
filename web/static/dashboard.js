"use strict";
// Puts the newest page in place when the server says that something changed, and every 30 seconds for the times on it.
let busy = false;
let stream = null;
let patience = 10000;

async function renew() {
  const chosen = document.getSelection();
  if (busy || document.hidden || (chosen && !chosen.isCollapsed)) return;
  busy = true;
  try {
    const asked = { headers: { Accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(patience) };
    const answer = await fetch(location.href, asked);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (page.querySelector("main")) show(page);
    else complain(`answers ${answer.status}`);
  } catch {
    complain("is not reached");
  } finally {
    busy = false;
  }
}

function show(page) {
  const old = document.querySelector("main");
  const focused = document.activeElement?.getAttribute("href");
  const main = document.adoptNode(page.querySelector("main"));
  for (const each of old.querySelectorAll("details[open]")) main.querySelector(`#${each.id}`)?.setAttribute("open", "");
  const across = old.querySelector(".scroll")?.scrollLeft ?? 0;
  old.replaceWith(main);
  if (across) main.querySelector(".scroll")?.scrollTo(across, 0);
  if (document.title !== page.title) document.querySelector("#told").textContent = page.title;
  document.title = page.title;
  document.querySelector("link[rel=icon]").href = page.querySelector("link[rel=icon]").getAttribute("href");
  if (focused) main.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function complain(what) {
  if (document.querySelector("#unreached")) return;
  const told = document.createElement("p");
  told.id = "unreached";
  told.className = "error";
  told.role = "alert";
  told.textContent = `✗ The server ${what} since ${new Date().toLocaleTimeString()}: what stands below is old.`;
  const main = document.querySelector("main");
  main.prepend(told);
  delete main.dataset.seen; // so that the next event, whatever it says, has the page renewed
  document.title = `✗ server ${what} | Kasparro ETL`;
}

function listen() {
  if (document.hidden || (stream && stream.readyState !== EventSource.CLOSED)) return;
  stream = new EventSource("/events");
  stream.onmessage = (event) => {
    compare(event.data);
    setTimeout(compare, 3000, event.data); // the page may have come from a process whose board was two seconds old
  };
}

function compare(newest) {
  if (document.querySelector("main").dataset.seen !== newest) renew();
}

listen();
setInterval(() => {
  renew();
  listen();
}, 30000);
// A page that nobody looks at holds no stream, for a server has few of them.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return stream?.close();
  renew();
  listen();
});
