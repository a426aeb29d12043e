// The leaderboard: a table for each ruleset of a suite, which sorts and filters, a row's details, and
// two charts (plotly).
// The data are <script class="board-suite"> elements. All text of rows becomes text nodes.
"use strict";

(() => {
  const AGGREGATES = {
    mean: ["mean", "mean of the normalised scores"],
    iqm: ["IQM", "interquartile mean of the normalised scores of all runs and tasks"],
    median: ["median", "median over tasks of the mean over runs"],
    optimality_gap: ["optimality gap", "by how much runs miss 1, on average; smaller is better"],
  };
  // Okabe and Ito's colours, for the first rows of the table; the others are grey.
  const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6BB1",
    "#B8A800"];
  const root = document.getElementById("board");
  const suites = [...document.querySelectorAll("script.board-suite")]
    .map((element) => JSON.parse(element.textContent));
  const DEFAULTS = { view: "overview", sort: "mean", down: true };
  const state = { ...DEFAULTS, suite: suites[0], ruleset: suites[0].rulesets[0], text: "",
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
  /** A row's title; a narrow column breaks it behind _ and -. */
  const link = (row) => make("a", { href: permalink(row) },
    ...row.title.split(/(?<=[_-])/).flatMap((part) => [part, make("wbr")]));
  /** The rows of the ruleset, by rank. */
  const table = () => state.suite.rows.filter((row) => row.ruleset === state.ruleset);
  const plus = (a, b) => (a === null ? null : a + b);
  const COSTS = {
    seconds: (row) => plus(row.training_seconds, row.wall_time_s),
    steps: (row) => plus(row.training_steps, row.env_steps),
  };
  const percent = (share) => `${Math.round(100 * share)} %`;

  const about = (task) => `${task.env_id}: ${task.metric}`
    + (task.variant_of ? `; held out, a variant of ${task.variant_of}` : "");

  function short(number) {
    const size = Math.abs(number);
    if (size >= 1e9) return `${(number / 1e9).toPrecision(3)} G`;
    if (size >= 1e6) return `${(number / 1e6).toPrecision(3)} M`;
    if (size >= 1e4) return `${(number / 1e3).toPrecision(3)} k`;
    return size === 0 || size >= 0.01 ? String(Number(number.toPrecision(4))) : number.toExponential(2);
  }

  const soft = (text) => make("span", { class: "board-soft" }, text);

  /** What it cost, which is not always known. */
  const cost = (number, format) => (number === null ? soft("unknown")
    : number === 0 ? soft("none") : format(number));

  function time(number) {
    if (number >= 5400) return `${(number / 3600).toPrecision(3)} h`;
    if (number >= 90) return `${(number / 60).toPrecision(3)} min`;
    return `${number.toPrecision(2)} s`;
  }

  const estimateText = ([value, low, high]) =>
    `${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`;

  /** An interval as a bar and its estimate as ticks above and below, on a scale with some marks.
   * An estimate beyond the scale is an arrow. */
  function picture([value, low, high], { left, right }, marks = [0, 1]) {
    const at = (x) => 1 + (98 * (Math.min(Math.max(x, left), right) - left)) / (right - left);
    const line = (x, y, name) => draw("line",
      { x1: `${at(x)}%`, x2: `${at(x)}%`, y1: y[0], y2: y[1], class: name });
    const svg = draw("svg", { height: 14, class: "board-interval", "aria-hidden": "true" });
    svg.append(draw("line", { x1: "1%", x2: "99%", y1: 7, y2: 7, class: "mark" }),
      ...marks.filter((x) => left <= x && x <= right).map((x) => line(x, [0, 14], "mark")),
      draw("rect", { x: `${at(low)}%`, width: `${at(high) - at(low)}%`, y: 4, height: 6 }));
    if (left <= value && value <= right) {
      svg.append(line(value, [0, 4], "tick"), line(value, [10, 14], "tick"));
    } else {
      const [x, anchor, arrow] = value < left ? ["0%", "start", "«"] : ["100%", "end", "»"];
      svg.append(draw("text", { x, y: 12, "text-anchor": anchor }));
      svg.lastChild.textContent = arrow;
    }
    return svg;
  }

  const interval = ([value, low, high], range, marks) => make("span", { class: "board-estimate" },
    make("span", {}, value.toFixed(3), soft(` [${low.toFixed(3)}, ${high.toFixed(3)}]`)),
    picture([value, low, high], range, marks));

  /** The scale of a column: as wide as its intervals but for far outliers, with round ends. */
  function scale(estimates) {
    const low = Math.max(-1, Math.min(1.4, ...estimates.map((e) => e[1])));
    const high = Math.min(1.5, Math.max(-0.9, ...estimates.map((e) => e[2])));
    const span = Math.max(high - low, 0.01);
    const power = 10 ** Math.floor(Math.log10(span / 8));
    const step = power * [1, 2, 5, 10].find((size) => size * power >= span / 8);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const left = step * Math.floor(low / step + 1e-9);
    const right = Math.max(left + step, step * Math.ceil(high / step - 1e-9));
    return { left, right, ends: [left, right].map((end) => end.toFixed(digits)) };
  }

  /** The ends of a scale, as wide as the pictures below it. */
  const axis = ({ ends: [left, right] }) => make("span", { class: "board-axis" },
    make("span", {}, left), make("span", {}, right));

  // -- the table ---------------------------------------------------------------------------------

  /** A column of estimates; where there is none, ``missing`` says why. */
  function estimateColumn(key, title, help, estimate, missing = () => "") {
    const range = scale(table().map(estimate).filter((found) => found !== null));
    return { key, title, help, range, value: (row) => estimate(row)?.[0] ?? null,
      cell: (row) => (estimate(row) === null ? soft(missing(row)) : interval(estimate(row), range)) };
  }

  function costColumn(key, title, help, value, format) {
    return { key, title, help, value, cell: (row) => cost(value(row), format), up: true };
  }

  const failed = (task) => (task.failed ? `failed ${task.failed}/${task.runs}` : "");

  function reached(target) {
    if (target === null) return "";
    const share = soft(percent(target.reached));
    return target.median === null ? share : make("span", {}, `${short(target.median)}, `, share);
  }

  const VIEWS = {
    overview: ["overview", ""], aggregates: ["aggregates", ""],
    tasks: ["each task", "Normalised scores; of runs that failed, the floor's."],
    target: ["steps to target", "The median of the steps to the target, and how many of the "
      + "episodes reach it; those of failed runs do not."],
    cost: ["cost", "Seconds are those of the machine that made the row."],
  };

  function columns() {
    const rank = { key: "rank", title: "#", help: "by mean; without those that see the task",
      value: (row) => row.rank, cell: (row) => String(row.rank ?? "–"), up: true };
    const name = { key: "name", title: "row", help: "by name", value: (row) => row.title, up: true };
    const aggregate = (key) => ({ ...estimateColumn(key, ...AGGREGATES[key],
      (row) => row.aggregate[key]), up: key === "optimality_gap" });
    const coverage = { key: "coverage", title: "played",
      help: "runs that were played, of all tasks and seeds; the others failed and count 0",
      value: ({ coverage: [played, total] }) => played / total,
      cell: ({ coverage: [played, total] }) => make("span",
        { class: played < total ? "board-failed" : null }, `${played}/${total}`) };
    const views = {
      overview: () => [aggregate("mean"),
        { ...aggregate("iqm"), range: null, class: "board-roomy", cell: (row) => make("span",
          { title: estimateText(row.aggregate.iqm) }, row.aggregate.iqm[0].toFixed(3)) },
        coverage,
        costColumn("seconds", "time", "of training or tuning, and of scoring", COSTS.seconds, time)],
      aggregates: () => [...Object.keys(AGGREGATES).map(aggregate), coverage],
      tasks: () => state.suite.tasks.map((task) => estimateColumn(
        `task ${task.name}`, task.name, about(task), (row) => row.tasks[task.name].normalised,
        (row) => failed(row.tasks[task.name]))),
      target: () => state.suite.tasks.filter((task) => task.target !== null).map((task) => ({
        key: `target ${task.name}`, title: task.name,
        help: `steps until log10(loss) is ${task.target}: the median, and who reached it`,
        value: (row) => row.tasks[task.name].steps_to_target?.median ?? null,
        cell: (row) => reached(row.tasks[task.name].steps_to_target), up: true })),
      cost: () => [
        aggregate("mean"),
        costColumn("training_seconds", "training", "seconds of training or tuning",
          (row) => row.training_seconds, time),
        costColumn("training_steps", "training steps", "environment steps of training or tuning",
          (row) => row.training_steps, short),
        costColumn("wall_time_s", "scoring", "seconds of all evaluations, failed ones as well",
          (row) => row.wall_time_s, time),
        costColumn("env_steps", "scoring steps", "environment steps of all evaluations",
          (row) => row.env_steps, short),
      ],
    };
    return [rank, name, ...views[state.view]()];
  }

  function isShown(row) {
    const words = [row.name, row.agent, row.authors, row.note].join(" ").toLowerCase();
    const isWanted = state.chosen.size === 0
      || Object.keys(row.tags).some((tag) => state.chosen.has(tag));
    return words.includes(state.text.toLowerCase()) && isWanted;
  }

  /** What has no value, such as an unknown cost, comes last either way. */
  function sorted(rows, column) {
    const sign = state.down ? -1 : 1;
    return [...rows].sort((a, b) => {
      const [x, y] = [column.value(a), column.value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
    });
  }

  function sortBy(column) {
    if (state.sort === column.key) state.down = !state.down;
    else [state.sort, state.down] = [column.key, !column.up];
    show();
  }

  const tagsOf = (row) => make("span", { class: "board-tags" }, ...Object.entries(row.tags).map(
    ([tag, title]) => make("span", { class: "board-tag", title }, tag)));

  function tableOf(shown, all) {
    const head = all.map((column) => {
      const range = column.range ?? null;
      const by = column.key === state.sort;
      const order = by ? (state.down ? "descending" : "ascending") : null;
      const kind = range ? "board-scaled" : column.class ?? null;
      return make("th", { scope: "col", "aria-sort": order, class: kind }, make("button",
        { type: "button", title: column.help, onclick: () => sortBy(column) },
        column.title + (by ? (state.down ? " ▾" : " ▴") : "")), range && axis(range));
    });
    const body = shown.map((row) => {
      const dot = make("span", { class: "board-dot" });
      dot.style.background = colour(row);
      const cells = all.map((column) => (column.key !== "name"
        ? make("td", { class: column.class ?? null }, column.cell(row))
        : make("th", { scope: "row" }, dot, link(row), tagsOf(row))));
      return make("tr", { class: row === state.open ? "open" : null }, ...cells);
    });
    return make("table", {}, make("thead", {}, make("tr", {}, ...head)),
      make("tbody", {}, ...body));
  }

  // -- one row -----------------------------------------------------------------------------------

  function tableWith(titles, rows) {
    const head = titles.map((title) => make("th", { scope: "col" }, ...[title].flat()));
    return make("div", { class: "board-scroll" }, make("table", {},
      make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
  }

  function tasksOf(row) {
    const found = Object.values(row.tasks).map((task) => task.normalised);
    const range = scale(found.filter((estimate) => estimate !== null));
    const hasTargets = state.suite.tasks.some((task) => task.target !== null);
    const rows = state.suite.tasks.map((task) => {
      const { score, normalised, steps_to_target: target, ...runs } = row.tasks[task.name];
      const cells = score === null ? [soft(failed(runs)), ""] : [
        make("span", {}, `${short(score[0])} [${short(score[1])}, ${short(score[2])}] `,
          soft(failed(runs))),
        interval(normalised, range)];
      if (hasTargets) cells.push(reached(target));
      return make("tr", {}, make("th", { scope: "row", title: about(task) }, task.name),
        ...cells.map((cell) => make("td", {}, cell)));
    });
    return tableWith(["task", "score", ["normalised", axis(range)],
      ...(hasTargets ? ["steps to target, reached by"] : [])], rows);
  }

  /** The aggregates, and how likely the row beats each other row of the ruleset. */
  function comparisons(row) {
    const range = scale(Object.values(row.aggregate));
    const chances = { left: 0, right: 1, ends: ["0", "1"] };
    const aggregates = Object.entries(AGGREGATES).map(([key, [title, help]]) => make("tr", {},
      make("th", { scope: "row", title: help }, title),
      make("td", {}, interval(row.aggregate[key], range))));
    const others = table().filter((other) => other !== row).map((other) => make("tr", {},
      make("th", { scope: "row" }, link(other)),
      make("td", {}, interval(row.better[other.name], chances, [0, 0.5, 1]))));
    return make("div", { class: "board-pair" },
      make("div", {}, tableWith(["all tasks", axis(range)], aggregates)),
      others.length === 0 ? null : make("div", { class: "board-better",
        title: "how likely a run of this row beats one of the other, on a task drawn at random" },
      tableWith(["P(better than ...)", axis(chances)], others)));
  }

  /** One line for each thing that went wrong, with the seeds at which it did. */
  function failuresOf(row) {
    const seeds = new Map();
    for (const { task, seed, error } of row.failures) {
      const line = JSON.stringify([task, error]);
      seeds.set(line, [...(seeds.get(line) ?? []), seed]);
    }
    return [...seeds].map(([line, found]) => {
      const [task, error] = JSON.parse(line);
      return `${task} (seed ${found.join(", ")}): ${error}`;
    });
  }

  function details(row) {
    const space = Object.entries(row.space ?? {})
      .map(([name, values]) => `${name}: ${values.map((value) => JSON.stringify(value)).join(", ")}`);
    const known = (number, format) => (number === null ? "unknown" : format(number));
    const spent = (seconds, steps) => (seconds === 0 ? "none"
      : `${known(seconds, time)}; environment steps: ${known(steps, short)}`);
    const facts = { agent: row.agent, authors: row.authors,
      ruleset: row.ruleset, "search space": space.join("; "),
      trainings: row.trainings === null ? "" : String(row.trainings),
      training: spent(row.training_seconds, row.training_steps),
      scoring: spent(row.wall_time_s, row.env_steps), commit: row.commit, device: row.device,
      versions: Object.entries(row.versions).map(([name, version]) => `${name} ${version}`).join(", "),
    };
    const words = row.command.split(" ").flatMap((word) => [make("span", {}, word), " "]).slice(0, -1);
    const isWeb = /^https?:\/\//.test(row.url);
    const copy = make("button", { type: "button",
      onclick: () => navigator.clipboard.writeText(row.command).then(() => { copy.textContent = "copied"; }),
    }, "copy");
    return [
      make("a", { class: "board-close", href: `#${state.suite.name}`, "aria-label": "close" }, "×"),
      make("h2", {}, make("a", { href: permalink(row) }, row.title)),
      tagsOf(row),
      row.note ? make("p", {}, row.note) : null,
      isWeb ? make("p", {}, make("a", { href: row.url, rel: "nofollow noopener" }, row.url)) : null,
      make("div", { class: "board-command" }, make("pre", {}, ...words),
        navigator.clipboard ? copy : null),
      comparisons(row),
      tasksOf(row),
      row.failures.length === 0 ? null : make("ul", { class: "board-failures" },
        ...failuresOf(row).map((line) => make("li", {}, line))),
      make("dl", {}, ...Object.entries(facts).filter(([, fact]) => fact)
        .flatMap(([name, fact]) => [make("dt", {}, name), make("dd", {}, fact)])),
    ].filter((part) => part !== null);
  }

  // -- the charts --------------------------------------------------------------------------------

  const style = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
  const colour = (row) => COLOURS[table().indexOf(row)] ?? style("--color-foreground-muted");

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
  const label = (row) => row.title.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

  function drawProfiles(shown) {
    const lines = shown.map((row) => ({
      x: row.profile.thresholds, y: row.profile.fractions, mode: "lines", name: label(row),
      line: { color: colour(row), width: row === state.open ? 4 : 2 },
      hovertemplate: "%{fullData.name}<br>%{y:.0%} of runs reach %{x:.2f}<extra></extra>",
    }));
    const bands = shown.filter((row) => row === state.open).map((row) => ({
      x: [...row.profile.thresholds, ...[...row.profile.thresholds].reverse()],
      y: [...row.band[0], ...[...row.band[1]].reverse()], mode: "lines", line: { width: 0 },
      fill: "toself", fillcolor: colour(row), opacity: 0.25, hoverinfo: "skip",
    }));
    Plotly.react("board-profile", [...bands, ...lines.reverse()], layout("Performance profiles",
      { title: { text: "normalised score τ" } },
      { title: { text: "share of runs above τ" }, range: [-0.02, 1.02] }),
    { displayModeBar: false, responsive: true });
  }

  function drawCosts(shown) {
    const value = COSTS[state.cost];
    const [known, unknown] = [true, false].map((wanted) =>
      shown.filter((row) => (value(row) > 0) === wanted));
    const points = known.map((row) => {
      const [mean, low, high] = row.aggregate.mean;
      const bars = { type: "data", symmetric: false, array: [high - mean],
        arrayminus: [mean - low], color: colour(row), thickness: 1.2, width: 0 };
      return { x: [value(row)], y: [mean], mode: "markers", name: label(row), error_y: bars,
        marker: { color: colour(row), size: row === state.open ? 14 : 9 },
        customdata: [permalink(row)],
        hovertemplate: "%{fullData.name}<br>%{y:.3f} for %{x:.3s}<extra></extra>" };
    });
    const axis = state.cost === "seconds" ? "seconds, training and scoring"
      : "environment steps, training and scoring";
    const chart = document.getElementById("board-cost");
    Plotly.react(chart, points.reverse(), layout("Score against cost",
      { type: "log", title: { text: axis } }, { title: { text: "mean" } }),
    { displayModeBar: false, responsive: true });
    chart.removeAllListeners?.("plotly_click");
    chart.on("plotly_click", (event) => { location.hash = event.points[0].customdata; });
    notDrawn.textContent = unknown.length === 0 ? ""
      : `Of unknown cost, and not drawn: ${unknown.map((row) => row.title).join(", ")}.`;
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
    const hasTargets = state.suite.tasks.some((task) => task.target !== null);
    const views = Object.fromEntries(Object.entries(VIEWS)
      .filter(([view]) => hasTargets || view !== "target").map(([view, [title]]) => [view, title]));
    const tags = Object.assign({}, ...table().map((row) => row.tags));
    const chips = Object.entries(tags).sort().map(([tag, title]) => make("button", {
      type: "button", class: "board-chip", "data-tag": tag, title,
      "aria-pressed": String(state.chosen.has(tag)),
      onclick: (event) => {
        if (!state.chosen.delete(tag)) state.chosen.add(tag);
        event.target.setAttribute("aria-pressed", String(state.chosen.has(tag)));
        show();
      } }, tag));
    const rules = state.suite.rulesets.filter((ruleset) => ruleset !== null).map((ruleset) => make(
      "button", { type: "button", "data-ruleset": ruleset,
        "aria-pressed": String(ruleset === state.ruleset),
        onclick: () => {
          Object.assign(state, { ruleset, open: null, chosen: new Set() });
          history.replaceState(null, "", `#${state.suite.name}`);
          refresh();
        } },
      `${ruleset} (${state.suite.rows.filter((row) => row.ruleset === ruleset).length})`));
    return [
      choice("suite", "suite ", names, state.suite.name, (name) => { location.hash = name; }),
      choice("view", "show ", views, state.view, (view) => {
        Object.assign(state, DEFAULTS, { view });
        show();
      }),
      make("input", { type: "search", name: "filter", placeholder: "filter by name, author, note",
        "aria-label": "filter", value: state.text, oninput: (event) => {
          state.text = event.target.value;
          show();
        } }),
      make("span", { class: "board-chips" }, ...chips),
      rules.length ? make("div", { class: "board-rules", role: "group", "aria-label": "ruleset" },
        ...rules) : "",
    ];
  }

  const parts = Object.fromEntries(["controls", "row", "table", "note", "charts"].map((name) => [
    name, make(name === "row" ? "section" : "div", { id: `board-${name}` })]));
  parts.table.classList.add("board-scroll");

  function show() {
    const all = columns();
    const order = all.find((column) => column.key === state.sort);
    const shown = order ? sorted(table().filter(isShown), order) : table().filter(isShown);
    const none = table().length === 0 ? "No rows yet." : "No row is like that.";
    parts.table.replaceChildren(shown.length ? tableOf(shown, all) : make("p", {}, none));
    parts.note.textContent = shown.length ? VIEWS[state.view][1] : "";
    parts.row.replaceChildren(...(state.open ? details(state.open) : []));
    parts.row.hidden = state.open === null;
    parts.charts.hidden = shown.length === 0;
    if (shown.length) {
      drawProfiles(shown);
      drawCosts(shown);
    }
  }

  function refresh() {
    parts.controls.replaceChildren(...controls());
    show();
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
    state.open = suite.rows.find((row) => row.name === wanted) ?? null;
    const isNew = suite !== state.suite;
    if (isNew) Object.assign(state, DEFAULTS, { suite, ruleset: suite.rulesets[0], chosen: new Set() });
    if (state.open) state.ruleset = state.open.ruleset;
    refresh();
    if (state.open) parts.row.scrollIntoView({ block: "nearest" });
  }

  const costs = choice("cost", "cost in ", { seconds: "seconds", steps: "environment steps" },
    state.cost, (wanted) => {
      state.cost = wanted;
      show();
    });
  const notDrawn = make("p", { class: "board-soft" });
  parts.charts.className = "board-pair";
  parts.charts.append(make("div", {}, make("div", { id: "board-profile" })),
    make("div", {}, make("div", { id: "board-cost" }), costs, notDrawn));
  parts.note.className = "board-soft";
  root.replaceChildren(parts.controls, parts.table, parts.note, parts.row, parts.charts);
  window.addEventListener("hashchange", follow);
  new MutationObserver(show).observe(document.body, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  follow();
})();
