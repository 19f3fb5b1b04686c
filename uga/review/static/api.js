// The server's answers. Whatever goes wrong is a Failure with a code that strings.js may know.

export class Failure extends Error {
  constructor(status, content) {
    super(content.sentence ?? "");
    this.status = status;
    this.code = content.code ?? "unknown";
    this.current = content.current ?? null;
  }

  /** Nobody answered, or not the server that was there before: worth another try. */
  get isTemporary() {
    return this.status === 0 || this.status === 401 || this.status >= 500;
  }
}

function unreachable() {
  return new Failure(0, { code: "unreachable" });
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw unreachable();
  }
  if (response.ok) return response;
  throw new Failure(response.status, (await response.json().catch(() => null)) ?? {});
}

/** What a good answer holds; a body that was cut off, or that is none of the server's (a proxy's own page), is no answer. */
async function read(response, kind, body) {
  if (!response.headers.get("Content-Type")?.startsWith(kind)) throw unreachable();
  try {
    return await body();
  } catch {
    throw unreachable();
  }
}

async function json(path, options) {
  const response = await ask(path, options);
  return read(response, "application/json", () => response.json());
}

async function map(path) {
  const response = await ask(path);
  const values = new Uint8Array(await read(response, "application/octet-stream", () => response.arrayBuffer()));
  return { values, review: JSON.parse(response.headers.get("X-Review") ?? "null") };
}

const patch = (id) => `/api/patches/${encodeURIComponent(id)}`;

export const session = () => json("/api/session");
export const list = async () => (await json("/api/patches")).patches;
export const open = (id) => json(patch(id));
export const labels = (id) => map(`${patch(id)}/labels`);
export const prediction = async (id) => (await map(`${patch(id)}/prediction`)).values;
export const uncertainty = async (id) => (await map(`${patch(id)}/uncertainty`)).values;
export const imageAddress = (id, stamp) => `${patch(id)}/image.png?v=${stamp}`;
export const thumbnailAddress = (id, stamp) => `${patch(id)}/thumbnail.jpg?v=${stamp}`;
export const tileAddress = (id, stamp, level, x, y) =>
  `${patch(id)}/tiles/${level}/${x}_${y}.jpg?v=${encodeURIComponent(stamp)}`;
export const ARCHIVE = "/api/corrections.zip";

/** A browser sends a small request to its end even if the page is closed meanwhile. */
const KEEPALIVE_BYTES = 60_000;

export function save(id, base, reviewer, png) {
  const query = new URLSearchParams({ base, reviewer });
  return json(`${patch(id)}/labels?${query}`, {
    method: "PUT",
    headers: { "Content-Type": "image/png" },
    body: png,
    keepalive: png.length < KEEPALIVE_BYTES,
  });
}

export function review(id, base, reviewer, action) {
  return json(`${patch(id)}/review`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ base, reviewer, action }),
    keepalive: true,
  });
}
