"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const live = document.getElementById("live");
  const stories = [...document.querySelectorAll(".story")].map((section) => {
    const steps = [...section.querySelectorAll(".step")];
    const find = (name) => section.querySelector(`[data-do="${name}"]`);
    return { section, steps, now: 0, back: find("back"), next: find("next"), all: find("all"),
             where: section.querySelector(".where") };
  }).filter((story) => story.steps.length > 0);

  const show = (story, index, speak) => {
    story.now = Math.max(0, Math.min(story.steps.length - 1, index));
    story.steps.forEach((step, nr) => step.classList.toggle("now", nr === story.now));
    story.where.textContent = `Step ${story.now + 1} of ${story.steps.length}`;
    story.back.disabled = story.now === 0;
    story.next.disabled = story.now === story.steps.length - 1;
    if (speak) {
      const step = story.steps[story.now];
      live.textContent = `Step ${story.now + 1} of ${story.steps.length}. ${step.dataset.says}`;
      history.replaceState(null, "", `#${step.id}`);
    }
  };

  const go = (story, index) => {
    // The buttons stay where they are, however tall the step is.
    const before = story.next.getBoundingClientRect().top;
    show(story, index, true);
    if (story.section.classList.contains("all")) {
      story.steps[story.now].scrollIntoView({ block: "nearest" });
    } else {
      window.scrollBy(0, story.next.getBoundingClientRect().top - before);
    }
  };

  // The one that somebody is in, or that takes most of the window.
  const current = () => {
    const focused = stories.find((story) => story.section.contains(document.activeElement));
    if (focused) return focused;
    const seen = ({ section }) => {
      const { top, bottom } = section.getBoundingClientRect();
      return Math.min(bottom, window.innerHeight) - Math.max(top, 0);
    };
    return stories.reduce((best, story) => (seen(story) > seen(best) ? story : best), stories[0]);
  };

  for (const story of stories) {
    story.back.addEventListener("click", () => go(story, story.now - 1));
    story.next.addEventListener("click", () => go(story, story.now + 1));
    story.all.addEventListener("click", () => {
      const all = story.section.classList.toggle("all");
      story.all.setAttribute("aria-pressed", String(all));
    });
    show(story, 0, false);
  }

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || stories.length === 0) return;
    const story = current();
    const to = { ArrowRight: story.now + 1, ArrowLeft: story.now - 1, Home: 0, End: story.steps.length - 1 }[event.key];
    const inside = story.section.contains(document.activeElement);
    if (to === undefined || ((event.key === "Home" || event.key === "End") && !inside)) return;
    event.preventDefault();
    go(story, to);
  });

  const follow = () => {
    const step = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const story = stories.find(({ steps }) => steps.includes(step));
    if (!story) return;
    show(story, story.steps.indexOf(step), false);
    story.section.scrollIntoView();
  };
  window.addEventListener("hashchange", follow);
  follow();
})();
