// What the worklist shows, as its address says it: filters, search, order, page. A link or the back button brings it back.

export const PAGE = 50;
const PLAIN = { q: "", state: "", predicted: "", flag: "", reader: "", sort: "urgency", order: "", offset: 0 };

export function readQuery(search = location.search) {
  const said = new URLSearchParams(search);
  const query = { ...PLAIN };
  for (const name of Object.keys(PLAIN)) if (said.has(name)) query[name] = said.get(name);
  query.offset = Math.max(0, Math.floor(Number(query.offset)) || 0);
  return query;
}

// Only what differs from the plain worklist.
export function addressOf(query) {
  const said = new URLSearchParams(Object.entries(query).filter(([name, value]) => value !== PLAIN[name] && value !== ""));
  return said.size ? `/?${said}` : "/";
}

export function apiPath(query) {
  const said = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ""));
  said.set("limit", PAGE);
  return `/api/cases?${said}`;
}

export const isFiltered = (query) => ["q", "state", "predicted", "flag", "reader"].some((name) => query[name] !== "");
