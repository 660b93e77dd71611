// Makes the pages quicker; each of them works without it.
"use strict";

// New decisions: every five seconds, while the page can be seen and nobody is reading further down.
const live = document.querySelector("tbody[data-live]");
if (live) {
  const status = document.getElementById("live");
  const address = new URL(location.href);
  address.searchParams.set("rows", "1");
  const refresh = async () => {
    if (document.hidden || live.contains(document.activeElement) || scrollY > 200) return;
    try {
      const answer = await fetch(address, { redirect: "error", credentials: "same-origin" });
      if (!answer.ok) throw new Error(String(answer.status));
      const rows = new DOMParser().parseFromString(`<table><tbody>${await answer.text()}</tbody></table>`, "text/html");
      live.replaceChildren(...rows.querySelectorAll("tr"));
      status.textContent = "live";
    } catch {
      status.textContent = "not live: load the page again";
    }
  };
  status.textContent = "live";
  setInterval(refresh, 5000);
}

// Keys: j and k along a list; a letter for a button that shows it. Never while somebody writes.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  const links = [...document.querySelectorAll("[data-list] tbody a")];
  if ((event.key === "j" || event.key === "k") && links.length) {
    const at = links.indexOf(document.activeElement);
    const next = event.key === "j" ? Math.min(at + 1, links.length - 1) : Math.max(at - 1, 0);
    links[next].focus();
    event.preventDefault();
  }
  if (/^[a-z]$/.test(event.key)) {
    const button = document.querySelector(`button[data-key="${event.key}"]`);
    if (button) {
      event.preventDefault();
      button.focus();
      button.click();
    }
  }
});
