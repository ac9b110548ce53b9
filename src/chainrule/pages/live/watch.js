// A page that grows: sections come through a socket and take the place of those before.
const watching = () => {
  const token = new URLSearchParams(location.search).get("token");
  const socket = new WebSocket(`ws://${location.host}/socket?token=${encodeURIComponent(token)}`);
  const main = document.querySelector("main"), nav = document.querySelector("nav");
  const titles = new Map();
  const waiting = new Map(); // sections that somebody walks in are replaced when they are left

  const put = (id, html) => {
    const old = document.getElementById(id);
    if (old?.contains(document.activeElement)) {
      if (!waiting.has(id)) old.addEventListener("focusout", () => setTimeout(() => {
        if (old.contains(document.activeElement) || !waiting.has(id)) return;
        const latest = waiting.get(id);
        waiting.delete(id);
        put(id, latest);
      }));
      waiting.set(id, html);
      return;
    }
    const details = (element) => [...element.querySelectorAll("details")];
    const open = old ? details(old).map((d) => d.open) : [];
    const holder = document.createElement("div");
    holder.innerHTML = html;
    const fresh = holder.firstElementChild;
    details(fresh).forEach((d, k) => { d.open = open[k] ?? d.open; });
    for (const el of old?.querySelectorAll(".cr-explorer") ?? []) el.explorer?.remove();
    if (old) old.replaceWith(fresh);
    else main.append(fresh);
    explorer.start(fresh);
  };

  socket.onmessage = (event) => {
    const { order, sections } = JSON.parse(event.data);
    for (const { id, title, html } of sections) {
      titles.set(id, title);
      put(id, html);
    }
    for (const section of main.querySelectorAll(":scope > section")) {
      if (!order.includes(section.id)) section.remove();
    }
    const there = order.map((id) => document.getElementById(id)).filter(Boolean);
    there.forEach((section, k) => {
      if (main.children[k] !== section) main.insertBefore(section, main.children[k] ?? null);
    });
    nav.replaceChildren(...there.map((section) => {
      const link = document.createElement("a");
      link.href = `#${section.id}`;
      link.textContent = titles.get(section.id) ?? section.querySelector("h2")?.textContent ?? "";
      return link;
    }).flatMap((link, k) => (k ? [" ", link] : [link])));
  };
  socket.onclose = () => setTimeout(watching, 2000);
};
watching();
