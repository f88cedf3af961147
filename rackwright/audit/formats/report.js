"use strict";
(() => {
  const form = document.getElementById("filter");
  if (!form) return;
  const fields = ["host", "kind", "state", "severity"];
  const articles = [...document.querySelectorAll("article")];
  const texts = new Map(articles.map(article => [article, article.textContent.toLowerCase()]));
  const field = name => document.getElementById(name);
  const matches = (article, name, value) =>
    name === "kind" ? article.dataset.kind.includes(`|${value}|`) : article.dataset[name] === value;
  const apply = () => {
    const words = field("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const article of articles) {
      const fits = fields.every(name => !field(name).value || matches(article, name, field(name).value))
        && words.every(word => texts.get(article).includes(word));
      article.hidden = !fits;
      count += fits ? 1 : 0;
    }
    for (const host of document.querySelectorAll("section.host")) {
      host.hidden = !host.querySelector("article:not([hidden])");
    }
    field("shown").value = `${count} of ${articles.length} findings`;
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  for (const button of document.querySelectorAll("td button")) {
    button.addEventListener("click", () => {
      form.reset();
      field("host").value = button.dataset.host;
      field("kind").value = button.dataset.kind;
      setTimeout(() => { apply(); form.scrollIntoView(); });
    });
  }
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  apply();
})();
