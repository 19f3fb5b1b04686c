// Which view is shown: / is the queue, /patch/<id> the editor.

import * as api from "./api.js";
import { reviewerName } from "./dialogs.js";
import { fill, h } from "./dom.js";
import { QueueView } from "./queue.js";
import { ERROR, sentence } from "./strings.js";

const root = document.getElementById("app");
let session = null;
let view = null;
/** Counts the addresses that were asked for; what was asked for before the last one shows nothing any more. */
let turn = 0;

function address() {
  return /^\/patch\/([^/]+)$/.exec(location.pathname)?.[1] ?? null;
}

/** Takes the turn; resolves when what is shown was left, with whether it is still this one's turn. */
async function take() {
  const mine = ++turn;
  const mayGo = !view || (await view.leave());
  return { mine, mayGo: mayGo && mine === turn };
}

async function make(id) {
  if (!id) return new QueueView(root, session, navigate);
  const { EditorView } = await import("./editor.js");
  return new EditorView(root, session, id, navigate);
}

async function show(mine) {
  const id = address();
  try {
    session ??= await api.session();
    const made = await make(id);
    if (mine !== turn) return;
    view = made;
    await view.show();
    if (mine === turn) await reviewerName();
  } catch (failure) {
    if (mine !== turn) return;
    console.error(failure);
    fill(
      root,
      h(
        "main",
        { class: "broken" },
        h("h1", { text: ERROR.title }),
        h("p", { text: sentence(failure) }),
        h(
          "div",
          { class: "decisions" },
          h("button", { type: "button", class: "primary", on: { click: () => location.reload() } }, ERROR.reload),
          id ? h("a", { class: "button", href: "/" }, ERROR.queue) : null,
        ),
      ),
    );
  }
}

/** Opens an address of the page, once what is shown now may be left. */
async function navigate(path) {
  const { mine, mayGo } = await take();
  if (!mayGo) return;
  if (path !== location.pathname) history.pushState(null, "", path);
  await show(mine);
}

globalThis.addEventListener("popstate", async () => {
  const { mine, mayGo } = await take();
  if (mayGo) await show(mine);
});

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  const isPlain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  if (!link || !isPlain || link.hasAttribute("download") || link.origin !== location.origin) return;
  event.preventDefault();
  navigate(link.pathname);
});

show(turn);
