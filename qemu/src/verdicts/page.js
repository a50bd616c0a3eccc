"use strict";
(() => {
  document.documentElement.classList.add("js");
  const form = document.getElementById("filters");
  const status = form.querySelector("[role=status]");
  const claims = [...document.querySelectorAll(".claim")];
  const texts = new Map(claims.map((claim) => [claim, claim.textContent.toLowerCase()]));
  const apply = () => {
    const { words, document: number, verdict, group, differ } = form.elements;
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const claim of claims) {
      const { documents, verdict: its, group: own, differ: depends } = claim.dataset;
      const fits = wanted.every((word) => texts.get(claim).includes(word))
        && (!number.value || documents.split(" ").includes(number.value))
        && (!verdict.value || its === verdict.value)
        && (!group.value || own === group.value)
        && (!differ.checked || depends === "yes");
      claim.hidden = !fits;
      shown += fits;
    }
    for (const section of document.querySelectorAll(".verdict")) {
      section.hidden = !section.querySelector(".claim:not([hidden])");
    }
    status.textContent = `${shown} of ${claims.length} claims`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  // A link to a claim opens it, and a filter must not hide it.
  const follow = () => {
    const claim = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!claim || !claim.classList.contains("claim")) return;
    if (claim.hidden) form.reset();
    claim.open = true;
    setTimeout(() => claim.scrollIntoView());
  };
  window.addEventListener("hashchange", follow);
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = claims.filter((claim) => !claim.open && !claim.hidden);
    opened.forEach((claim) => { claim.open = true; });
  });
  window.addEventListener("afterprint", () => opened.forEach((claim) => { claim.open = false; }));
  apply();
  follow();
})();
