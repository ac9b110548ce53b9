
// A page that grows: sections come through a socket and take the place of those before.
const watching = () => {
  const token = new URLSearchParams(location.search).get("token");
  const socket = new WebSocket(`ws://${location.host}/socket?token=${encodeURIComponent(token)}`);
  const main = document.querySelector("main");
  socket.onmessage = (event) => {
    const { order, sections } = JSON.parse(event.data);
    for (const { id, html } of sections) {
      const old = document.getElementById(id);
      const open = new Set([...(old?.querySelectorAll("details[open]") ?? [])]
        .map((d) => [...old.querySelectorAll("details")].indexOf(d)));
      const holder = document.createElement("div");
      holder.innerHTML = html;
      const fresh = holder.firstElementChild;
      [...fresh.querySelectorAll("details")].forEach((d, k) => { d.open = open.has(k); });
      if (old) old.replaceWith(fresh);
      else main.append(fresh);
    }
    for (const section of main.querySelectorAll(":scope > section")) {
      if (!order.includes(section.id)) section.remove();
    }
    for (const id of order) main.append(document.getElementById(id));
    explorer.start(main);
  };
  socket.onclose = () => setTimeout(watching, 2000);
};
watching();
