// Which view is shown: / is the queue, /patch/<id> the editor.

import * as api from "./api.js";
import { reviewerName } from "./dialogs.js";
import { fill, h } from "./dom.js";
import { QueueView } from "./queue.js";
import { ERROR, sentence } from "./strings.js";

const root = document.getElementById("app");
let session = null;
let view = null;

function address() {
  return /^\/patch\/([^/]+)$/.exec(location.pathname)?.[1] ?? null;
}

async function show() {
  const id = address();
  let shown = view;
  try {
    session ??= await api.session();
    if (id) {
      const { EditorView } = await import("./editor.js");
      view = new EditorView(root, session, id, navigate);
    } else {
      view = new QueueView(root, session, navigate);
    }
    shown = view;
    await shown.show();
    await reviewerName();
  } catch (failure) {
    if (shown !== view) return; // another view has taken its place meanwhile
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
  if (view && !(await view.leave())) return;
  if (path !== location.pathname) history.pushState(null, "", path);
  await show();
}

globalThis.addEventListener("popstate", async () => {
  await view?.leave();
  await show();
});

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  const isPlain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  if (!link || !isPlain || link.hasAttribute("download") || link.origin !== location.origin) return;
  event.preventDefault();
  navigate(link.pathname);
});

show();
