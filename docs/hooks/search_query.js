// Runs in front of the theme's search, in its worker: docs/hooks/search.py puts
// it there. It turns what a reader typed into words that the index knows.

const prepareQuery = (() => {
  const HAN = /\p{sc=Han}+/gu;
  const EXACT = 4; // how much more a whole word counts than the start of one
  const CHOICES = 3; // words taken for one that is not known
  const LONGEST = 8; // Chinese characters in a word
  const READ = 40; // of a run of Chinese, which may be a whole page pasted

  // What a cut of Chinese costs: it takes known words of two characters and
  // more, guesses one wrong character rather than fall back to single ones, and
  // leaves out what the index has never seen.
  const COST = { word: 1, single: 3, guess: 4.5, guessOfTwo: 5, unknown: 4 };

  const words = new WeakMap();
  const vocabulary = (index) => {
    if (!words.has(index)) words.set(index, Object.keys(index));
    return words.get(index);
  };

  // Edits that make one word of the other, two swapped neighbours being one
  // (optimal string alignment); more than `most` is not counted further.
  const distance = (a, b, most) => {
    if (Math.abs(a.length - b.length) > most) return most + 1;
    let [last, row] = [[], Array.from({ length: b.length + 1 }, (_, j) => j)];
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++) {
        const same = a[i - 1] === b[j - 1];
        next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + !same);
        if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
          next[j] = Math.min(next[j], last[j - 2] + 1);
      }
      if (Math.min(...next) > most) return most + 1;
      [last, row] = [row, next];
    }
    return row[b.length];
  };

  // Words that differ least, those that name a section before all others.
  const nearest = (word, index, most, fits) => {
    const rank = (found) => Object.keys(index[found].title).length;
    let best = most;
    let near = [];
    for (const candidate of vocabulary(index)) {
      if (!fits(candidate)) continue;
      const far = distance(word, candidate, best);
      if (far > best) continue;
      if (far < best) [best, near] = [far, []];
      near.push(candidate);
    }
    return near.sort((a, b) => rank(b) - rank(a)).slice(0, CHOICES);
  };

  const latin = (word, index) => {
    if (vocabulary(index).some((known) => known.startsWith(word)))
      return [...(word in index ? [`${word}^${EXACT}`] : []), `${word}*`];
    const most = word.length < 4 ? 0 : word.length < 8 ? 1 : 2;
    const near = most
      ? nearest(word, index, most, (known) => !/\p{sc=Han}|^\d/u.test(known))
      : [];
    return near.length ? near.map((known) => `${known}^${EXACT}`) : [`${word}*`];
  };

  const guess = (part, index) =>
    nearest(part, index, 1, (known) => known.length === part.length);

  const chinese = (run, index) => {
    const best = [{ cost: 0, terms: [] }];
    for (let end = 1; end <= run.length; end++) {
      for (let start = Math.max(0, end - LONGEST); start < end; start++) {
        const part = run.slice(start, end);
        const before = best[start];
        const add = (cost, terms) => {
          if (!best[end] || before.cost + cost < best[end].cost)
            best[end] = {
              cost: before.cost + cost,
              terms: [...before.terms, ...terms],
            };
        };
        if (part in index)
          add(part.length > 1 ? COST.word : COST.single, [`${part}^${EXACT}`]);
        else if (part.length === 1) add(COST.unknown, []);
        else {
          const price = part.length > 2 ? COST.guess : COST.guessOfTwo;
          // Nothing to gain where known words already come cheaper.
          if (best[end] && before.cost + price >= best[end].cost) continue;
          const near = guess(part, index);
          if (near.length) add(price, near);
        }
      }
    }
    const { terms } = best[run.length];
    const begun = vocabulary(index).some((known) => known.startsWith(run));
    return begun ? [...terms, `${run}*`] : terms;
  };

  return (query, index) => {
    const terms = [];
    const text = query
      .normalize("NFKC")
      .toLowerCase()
      .replace(/(\d)\s*[x*]\s*(?=\d)/g, "$1×")
      .replace(HAN, " $& ");
    for (const word of text.split(lunr.tokenizer.separator)) {
      const clean = word.replace(/[*+\-:~^"]/g, "");
      if (!clean || !lunr.stopWordFilter(clean)) continue;
      terms.push(
        ...(clean.search(HAN) < 0 ? latin(clean, index) : chinese(clean.slice(0, READ), index))
      );
    }
    return terms.join(" ");
  };
})();

// What to show of a section found by its title or another name.
const firstParagraph = (text) => text.slice(0, text.indexOf("</p>") + 4);
