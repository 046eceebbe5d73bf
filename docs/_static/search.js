// On the page of the search: numbers can be searched for, such as close codes, and what helps most comes first.
"use strict";

(() => {
  const query = (new URLSearchParams(location.search).get("q") ?? "").toLowerCase();
  const words = query.split(/[^\w]+/).filter(Boolean);

  // Guides and errors before the reference, and that before pages for those who work on the library.
  const PLACES = [
    [/^faq$/, 7],
    [/^howto\/migrating/, -4],
    [/^howto\//, 6],
    [/^(cheatsheet|command|compression|logging|security)$/, 4],
    [/^reference\/(asyncio|threads)/, 2],
    [/^(legacy|reference\/legacy|changelog|architecture)$/, -14],
    [/^(index|reference|conformance|contributing|fuzzing|performance|platforms|robustness|writing)$/, -6],
  ];

  const place = (page) => PLACES.find(([pattern]) => pattern.test(page))?.[1] ?? 0;

  // How many of the words stand in the title.
  const named = (title) => words.filter((word) => title.toLowerCase().includes(word)).length / (words.length || 1);

  const score = ([page, title, anchor, description, score, file, kind]) =>
    score + place(page) + (kind === "object" ? 0 : 10 * named(title));

  const improve = () => {
    Scorer.score = score;
    const parse = Search._parseQuery;
    Search._parseQuery = (text) => {
      const parsed = parse(text);
      const [, searched, , highlighted] = parsed;
      for (const number of text.match(/\b\d{3,}\b/g) ?? []) {
        searched.add(number);
        highlighted.add(number);
      }
      return parsed;
    };
  };

  // The search begins when the document has been read.
  if (typeof Search === "undefined") document.addEventListener("DOMContentLoaded", improve);
  else improve();
})();
