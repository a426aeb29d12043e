// The leaderboard: a table that sorts and filters, a row's details, and two charts (plotly).
// The data are <script class="board-suite"> elements. All text of rows becomes text nodes.
"use strict";

(() => {
  const SHAPES = { trained: "learned its policy", "hand-designed": "was written by hand",
    oracle: "sees the task" };
  const AGGREGATES = {
    iqm: ["IQM", "interquartile mean of the normalised scores of all runs and tasks"],
    mean: ["mean", "mean of the normalised scores"],
    median: ["median", "median over tasks of the mean over runs"],
    optimality_gap: ["optimality gap", "by how much runs miss 1, on average; smaller is better"],
  };
  // Okabe and Ito's colours, for the first rows of the table; the others are grey.
  const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6BB1",
    "#B8A800"];
  const root = document.getElementById("board");
  const suites = [...document.querySelectorAll("script.board-suite")]
    .map((element) => JSON.parse(element.textContent));
  const state = { suite: suites[0], view: "scores", sort: "iqm", down: true, text: "",
    chosen: new Set(), open: null, cost: "seconds" };

  // -- small things ------------------------------------------------------------------------------

  /** An element; strings among the children become text. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  function draw(tag, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  const permalink = (row) => `#${state.suite.name}/${encodeURIComponent(row.name)}`;
  const kind = (row) => (row.privileged ? "oracle" : isTrained(row) ? "trained" : "hand-designed");
  // What external tuning costs is booked as training, and is none.
  const isTrained = (row) => row.training_steps > 0 && row.ruleset !== "external-tuning";
  const tags = (row) => [kind(row), row.ruleset].filter(Boolean);
  const seconds = (row) => row.training_seconds + row.wall_time_s;
  const steps = (row) => row.training_steps + row.env_steps;

  const about = (task) => `${task.env_id}: ${task.metric}`
    + (task.variant_of ? `; held out, a variant of ${task.variant_of}` : "");

  function short(number) {
    const size = Math.abs(number);
    if (size >= 1e9) return `${(number / 1e9).toPrecision(3)} G`;
    if (size >= 1e6) return `${(number / 1e6).toPrecision(3)} M`;
    if (size >= 1e4) return `${(number / 1e3).toPrecision(3)} k`;
    return size === 0 || size >= 0.01 ? String(Number(number.toPrecision(4))) : number.toExponential(2);
  }

  function time(number) {
    if (number >= 5400) return `${(number / 3600).toPrecision(3)} h`;
    if (number >= 90) return `${(number / 60).toPrecision(3)} min`;
    return `${number.toPrecision(2)} s`;
  }

  /** A dot with its interval, on a scale from low to high where 0 and 1 are marked. */
  function interval([value, low, high], [left, right]) {
    const width = 80, height = 14;
    const at = (x) => 4 + ((width - 8) * (Math.min(Math.max(x, left), right) - left)) / (right - left);
    const picture = draw("svg", { width, height, class: "board-interval", "aria-hidden": "true" });
    for (const mark of [0, 1]) {
      picture.append(draw("line", { x1: at(mark), x2: at(mark), y1: 0, y2: height, class: "mark" }));
    }
    picture.append(draw("line", { x1: at(low), x2: at(high), y1: 7, y2: 7, class: "range" }));
    picture.append(draw("circle", { cx: at(value), cy: 7, r: 3.2 }));
    const text = `${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`;
    return make("span", { class: "board-estimate", title: text }, value.toFixed(3), picture);
  }

  /** What intervals of a column are drawn on; far outliers stop at its ends. */
  function scale(estimates) {
    const low = Math.min(0, ...estimates.map((e) => e[1]));
    const high = Math.max(1, ...estimates.map((e) => e[2]));
    return [Math.max(low, -1), Math.min(high, 1.5)];
  }

  // -- the table ---------------------------------------------------------------------------------

  function estimateColumn(key, title, help, estimate) {
    const range = scale(state.suite.rows.map(estimate));
    return { key, title, help, value: (row) => estimate(row)[0],
      cell: (row) => interval(estimate(row), range) };
  }

  function numberColumn(key, title, help, value, format) {
    return { key, title, help, value, cell: (row) => format(value(row)) };
  }

  function columns() {
    const name = { key: "name", title: "row", help: "by name", value: (row) => row.name };
    const aggregate = (key) => estimateColumn(key, ...AGGREGATES[key], (row) => row.aggregate[key]);
    const failures = numberColumn("failures", "failures", "tasks and seeds that count as 0",
      (row) => row.failures.length, String);
    const views = {
      scores: () => [...Object.keys(AGGREGATES).map(aggregate), failures],
      tasks: () => state.suite.tasks.map((task) => estimateColumn(
        `task ${task.name}`, task.name, about(task),
        (row) => row.tasks[task.name].normalised)),
      cost: () => [
        aggregate("iqm"),
        numberColumn("training_seconds", "training", "seconds of training or tuning",
          (row) => row.training_seconds, time),
        numberColumn("training_steps", "training steps", "environment steps of training or tuning",
          (row) => row.training_steps, short),
        numberColumn("wall_time_s", "scoring", "seconds of all evaluations", (row) => row.wall_time_s,
          time),
        numberColumn("env_steps", "scoring steps", "environment steps of all evaluations",
          (row) => row.env_steps, short),
        failures,
      ],
    };
    return [name, ...views[state.view]()];
  }

  function isShown(row) {
    const words = [row.name, row.agent, row.authors, row.note].join(" ").toLowerCase();
    const groups = [[kind(row), Object.keys(SHAPES)], [row.ruleset, rulesets()]];
    return words.includes(state.text.toLowerCase()) && groups.every(([value, group]) => {
      const wanted = group.filter((tag) => state.chosen.has(tag));
      return wanted.length === 0 || wanted.includes(value);
    });
  }

  function rulesets() {
    return [...new Set(state.suite.rows.map((row) => row.ruleset).filter(Boolean))].sort();
  }

  function sorted(rows, column) {
    const sign = state.down ? -1 : 1;
    return [...rows].sort((a, b) => {
      const [x, y] = [column.value(a), column.value(b)];
      return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
    });
  }

  function sortBy(column) {
    if (state.sort === column.key) state.down = !state.down;
    else [state.sort, state.down] = [column.key, column.key !== "name"];
    show();
  }

  function tableOf(shown, all) {
    const head = all.map((column) => {
      const by = column.key === state.sort;
      const order = by ? (state.down ? "descending" : "ascending") : null;
      return make("th", { scope: "col", "aria-sort": order }, make("button",
        { type: "button", title: column.help, onclick: () => sortBy(column) },
        column.title + (by ? (state.down ? " ▾" : " ▴") : "")));
    });
    const body = shown.map((row, rank) => {
      const dot = make("span", { class: "board-dot" });
      dot.style.background = colour(rank);
      const first = make("th", { scope: "row" }, dot, make("a", { href: permalink(row) }, row.name),
        ...tags(row).map((tag) => make("span", { class: "board-tag" }, tag)));
      const cells = all.slice(1).map((column) => make("td", {}, column.cell(row)));
      return make("tr", { class: row === state.open ? "open" : null }, first, ...cells);
    });
    return make("table", {}, make("thead", {}, make("tr", {}, ...head)),
      make("tbody", {}, ...body));
  }

  // -- one row -----------------------------------------------------------------------------------

  function details(row) {
    const range = scale(Object.values(row.tasks).map((task) => task.normalised));
    const tasks = state.suite.tasks.map((task) => {
      const score = row.tasks[task.name];
      const [value, low, high] = score.score;
      return make("tr", {},
        make("th", { scope: "row", title: about(task) }, task.name),
        make("td", {}, `${short(value)} [${short(low)}, ${short(high)}]`),
        make("td", {}, interval(score.normalised, range)),
        make("td", {}, score.steps_to_target === null ? "" : short(score.steps_to_target)),
        make("td", {}, score.failed ? "failed" : ""));
    });
    const titles = ["task", "score", "normalised", "steps to target", ""];
    const facts = { agent: row.agent, authors: row.authors, commit: row.commit, device: row.device,
      training: `${time(row.training_seconds)}, ${short(row.training_steps)} steps`,
      scoring: `${time(row.wall_time_s)}, ${short(row.env_steps)} steps`,
      versions: Object.entries(row.versions).map(([name, version]) => `${name} ${version}`).join(", "),
    };
    const isWeb = /^https?:\/\//.test(row.url);
    const copy = make("button", { type: "button",
      onclick: () => navigator.clipboard.writeText(row.command).then(() => { copy.textContent = "copied"; }),
    }, "copy");
    return [
      make("a", { class: "board-close", href: `#${state.suite.name}`, "aria-label": "close" }, "×"),
      make("h2", {}, make("a", { href: permalink(row) }, row.name)),
      row.note ? make("p", {}, row.note) : null,
      isWeb ? make("p", {}, make("a", { href: row.url, rel: "nofollow noopener" }, row.url)) : null,
      make("div", { class: "board-command" }, make("pre", {}, row.command),
        navigator.clipboard ? copy : null),
      make("div", { class: "board-scroll" }, make("table", {},
        make("thead", {}, make("tr", {}, ...titles.map((t) => make("th", { scope: "col" }, t)))),
        make("tbody", {}, ...tasks))),
      row.failures.length === 0 ? null : make("ul", { class: "board-failures" },
        ...row.failures.map((f) => make("li", {}, `${f.task}, seed ${f.seed}: ${f.error}`))),
      make("dl", {}, ...Object.entries(facts).filter(([, fact]) => fact)
        .flatMap(([name, fact]) => [make("dt", {}, name), make("dd", {}, fact)])),
    ].filter((part) => part !== null);
  }

  // -- the charts --------------------------------------------------------------------------------

  const style = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
  const colour = (rank) => COLOURS[rank] ?? style("--color-foreground-muted");

  function layout(title, x, y) {
    const grid = style("--color-background-border");
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true };
    return {
      title: { text: title, font: { size: 15 }, x: 0.02, xanchor: "left" },
      font: { color: style("--color-foreground-primary"), family: "inherit", size: 12 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      margin: { l: 48, r: 12, t: 40, b: 44 }, hovermode: "closest", height: 340,
      hoverlabel: { bgcolor: style("--color-background-secondary"), bordercolor: grid,
        font: { color: style("--color-foreground-primary") } },
      xaxis: { ...axis, ...x }, yaxis: { ...axis, ...y },
    };
  }

  /** Plotly reads a little HTML in names: only the entities are left of it. */
  const label = (row) => row.name.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

  function drawProfiles(shown) {
    const lines = shown.map((row, rank) => ({
      x: row.profile.thresholds, y: row.profile.fractions, mode: "lines", name: label(row),
      line: { color: colour(rank), width: row === state.open ? 4 : rank < COLOURS.length ? 2 : 1 },
      hovertemplate: "%{fullData.name}<br>%{y:.0%} of runs reach %{x:.2f}<extra></extra>",
    }));
    Plotly.react("board-profile", lines.reverse(), layout("Performance profiles",
      { title: { text: "normalised score τ" } },
      { title: { text: "share of runs above τ" }, range: [-0.02, 1.02] }),
    { displayModeBar: false, responsive: true });
  }

  function drawCosts(shown) {
    const cost = state.cost === "seconds" ? seconds : steps;
    const points = shown.map((row, rank) => {
      const [value, low, high] = row.aggregate.iqm;
      const bars = { type: "data", symmetric: false, array: [high - value],
        arrayminus: [value - low], color: colour(rank), thickness: 1.2, width: 0 };
      return { x: [cost(row)], y: [value], mode: "markers", name: label(row), error_y: bars,
        marker: { color: colour(rank), size: row === state.open ? 14 : 9 },
        customdata: [permalink(row)],
        hovertemplate: "%{fullData.name}<br>%{y:.3f} for %{x:.3s}<extra></extra>" };
    });
    const axis = state.cost === "seconds" ? "seconds, training and scoring"
      : "environment steps, training and scoring";
    const chart = document.getElementById("board-cost");
    Plotly.react(chart, points.reverse(), layout("Score against cost",
      { type: "log", title: { text: axis } }, { title: { text: "IQM" } }),
    { displayModeBar: false, responsive: true });
    chart.removeAllListeners?.("plotly_click");
    chart.on("plotly_click", (event) => { location.hash = event.points[0].customdata; });
  }

  // -- the page ----------------------------------------------------------------------------------

  function choice(name, title, values, chosen, then) {
    return make("label", {}, title, make("select", { name, onchange: (event) => {
      then(event.target.value);
    } }, ...Object.entries(values).map(([value, text]) => make("option",
      { value, selected: value === chosen ? "" : null }, text))));
  }

  function controls() {
    const names = Object.fromEntries(suites.map((s) => [s.name, `${s.name} (${s.rows.length})`]));
    const views = { scores: "aggregates", tasks: "each task", cost: "cost" };
    const chips = [...Object.keys(SHAPES), ...rulesets()].map((tag) => make("button", {
      type: "button", class: "board-chip", "data-tag": tag, title: SHAPES[tag] ?? "ruleset",
      "aria-pressed": String(state.chosen.has(tag)),
      onclick: (event) => {
        if (!state.chosen.delete(tag)) state.chosen.add(tag);
        event.target.setAttribute("aria-pressed", String(state.chosen.has(tag)));
        show();
      } }, tag));
    return [
      choice("suite", "suite ", names, state.suite.name, (name) => { location.hash = name; }),
      choice("view", "show ", views, state.view, (view) => {
        Object.assign(state, { view, sort: view === "tasks" ? "name" : "iqm", down: view !== "tasks" });
        show();
      }),
      make("input", { type: "search", name: "filter", placeholder: "filter by name, author, note",
        "aria-label": "filter", value: state.text, oninput: (event) => {
          state.text = event.target.value;
          show();
        } }),
      make("span", { class: "board-chips" }, ...chips),
    ];
  }

  const parts = Object.fromEntries(["controls", "row", "table", "charts"].map((name) => [
    name, make(name === "row" ? "section" : "div", { id: `board-${name}` })]));
  parts.table.classList.add("board-scroll");

  function show() {
    const all = columns();
    const by = all.find((column) => column.key === state.sort) ?? all[0];
    const shown = sorted(state.suite.rows.filter(isShown), by);
    const none = state.suite.rows.length === 0 ? "No rows yet." : "No row is like that.";
    parts.table.replaceChildren(shown.length ? tableOf(shown, all) : make("p", {}, none));
    parts.row.replaceChildren(...(state.open ? details(state.open) : []));
    parts.row.hidden = state.open === null;
    parts.charts.hidden = shown.length === 0;
    if (shown.length) {
      drawProfiles(shown);
      drawCosts(shown);
    }
  }

  /** #suite or #suite/row says what is shown. */
  function follow() {
    const [name, ...rest] = location.hash.slice(1).split("/");
    const suite = suites.find((one) => one.name === name) ?? state.suite;
    let wanted = rest.join("/");
    try {
      wanted = decodeURIComponent(wanted);
    } catch {
      // a hand-written link; it is taken as it stands
    }
    if (suite !== state.suite) Object.assign(state, { suite, chosen: new Set(), sort: "iqm", down: true,
      view: "scores" });
    state.open = suite.rows.find((row) => row.name === wanted) ?? null;
    parts.controls.replaceChildren(...controls());
    show();
    if (state.open) parts.row.scrollIntoView({ block: "nearest" });
  }

  const costs = choice("cost", "cost in ", { seconds: "seconds", steps: "environment steps" },
    state.cost, (cost) => {
      state.cost = cost;
      show();
    });
  parts.charts.className = "board-pair";
  parts.charts.append(make("div", {}, make("div", { id: "board-profile" })),
    make("div", {}, make("div", { id: "board-cost" }), costs));
  root.replaceChildren(parts.controls, parts.table, parts.row, parts.charts);
  window.addEventListener("hashchange", follow);
  new MutationObserver(show).observe(document.body, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  follow();
})();
