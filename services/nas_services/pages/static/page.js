"use strict";
// What has changed since a page was loaded? Parts of it that are marked are swapped as they come.

const PAUSE = 1000;
const RETRY = 2000;
const LIST_PAUSE = 5000;
// For what no event tells of: the supernet's steps, and files.
const LONGEST_PAUSE = 10000;

const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const marked = (root) => root.querySelectorAll("[data-live]");

// As they were served, for what a reader opens in a part is no change of it.
const served = new Map([...marked(document)].map((part) => [part.id, part.innerHTML]));

function swap(part) {
  const old = document.getElementById(part.id);
  if (!old || served.get(part.id) === part.innerHTML) return;
  served.set(part.id, part.innerHTML);
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  old.replaceChildren(...part.childNodes);
  if (focused) {
    const next = focused.id && document.getElementById(focused.id);
    (next || old.querySelector("a, button, summary") || document.getElementById("main")).focus({
      preventScroll: true,
    });
  }
}

async function refresh(address) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  // To the login, by which the page itself comes back here.
  if (answer.redirected) return location.reload();
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  const found = new DOMParser().parseFromString(await answer.text(), "text/html");
  marked(found).forEach(swap);
}

// Refreshes at most once a pause, and once more if it was asked for meanwhile.
function refresher(address) {
  let wanted = false;
  let busy = false;
  return async () => {
    wanted = true;
    if (busy) return;
    busy = true;
    while (wanted) {
      wanted = false;
      try {
        await refresh(address);
        await sleep(PAUSE);
      } catch {
        wanted = true;
        await sleep(RETRY);
      }
    }
    busy = false;
  };
}

// EventSource would begin with the first event of the search; this begins with what the page lacks.
async function* events(address, place, signal) {
  const headers = { Accept: "text/event-stream" };
  if (place.after !== "0") headers["Last-Event-ID"] = place.after;
  const answer = await fetch(address, { headers, signal });
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const field = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      place.after = field("id") ?? place.after;
      if (field("event")) yield field("event");
    }
  }
}

async function follow(live, changed) {
  const place = { after: live.dataset.after };
  const clock = setInterval(() => document.hidden || changed(), LONGEST_PAUSE);
  for (;;) {
    // A page that nobody sees leaves its connection to those that are seen.
    while (document.hidden) await sleep(PAUSE);
    const leaving = new AbortController();
    const hide = () => document.hidden && leaving.abort();
    document.addEventListener("visibilitychange", hide);
    try {
      for await (const kind of events(live.dataset.events, place, leaving.signal)) {
        changed();
        if (kind === "end") return clearInterval(clock);
      }
    } catch {
      changed();
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
    await sleep(RETRY);
  }
}

async function look(address) {
  for (;;) {
    await sleep(LIST_PAUSE);
    if (!document.hidden) await refresh(address).catch(() => {});
  }
}

const live = document.getElementById("live");
if (live) follow(live, refresher(live.dataset.fragment));
if (document.getElementById("list")) look(location.href);
