//! What the page is asked in the browser: an expression that looks at what a visitor gets, after the
//! style sheet, and gives it back as JSON.

/// Contrast as WCAG 2 computes it, for each element with a text of its own.
pub const CONTRAST: &str = r#"(() => {
  const parse = (text) => {
    const m = text.match(/rgba?\(([^)]+)\)/);
    if (!m) return null;
    const [r, g, b, a = 1] = m[1].split(/[,\s/]+/).filter(Boolean).map(Number);
    return { r, g, b, a };
  };
  const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = (c) => 0.2126 * channel(c.r) + 0.7152 * channel(c.g) + 0.0722 * channel(c.b);
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c && c.a === 1) return c;
    }
    return { r: 255, g: 255, b: 255, a: 1 };
  };
  const fill = (selector) => { const e = document.querySelector(selector); return e && parse(getComputedStyle(e).fill); };
  const bad = [];
  let checked = 0, lowest = 99;
  for (const e of document.body.querySelectorAll('*')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || ['TITLE', 'title', 'desc'].includes(e.tagName)) continue;
    const style = getComputedStyle(e);
    if (style.visibility === 'hidden' || e.closest('.skip')) continue;
    const svg = e.closest('svg');
    const front = parse(svg ? style.fill : style.color);
    const grounds = [ground(e)];
    if (svg && e.closest('.plot') && !e.classList.contains('halo')) grounds.push(fill('.silence'));
    if (svg && e.classList.contains('count')) { grounds.length = 0; grounds.push(fill('.cell'), fill('.cell.failed')); }
    const size = parseFloat(style.fontSize), weight = parseInt(style.fontWeight, 10);
    const need = size >= 24 || (size >= 18.66 && weight >= 700) ? 3 : 4.5;
    for (const back of grounds.filter(Boolean)) {
      checked += 1;
      const got = ratio(front, back);
      lowest = Math.min(lowest, got / need * 4.5);
      if (got < need) bad.push(`${e.tagName}.${e.getAttribute('class') || ''} "${e.textContent.trim().slice(0, 30)}" ${got.toFixed(2)} < ${need}`);
    }
  }
  for (const [selector, property] of [['.limit', 'stroke'], ['.curve', 'stroke'], ['.mark', 'stroke'], ['.cell.failed', 'stroke'], ['.contact', 'stroke']]) {
    const e = document.querySelector(selector);
    if (!e) continue;
    checked += 1;
    const got = ratio(parse(getComputedStyle(e)[property]), ground(e));
    if (got < 3) bad.push(`${selector} ${got.toFixed(2)} < 3`);
  }
  return { bad, checked, lowest };
})()"#;

/// Structure: what a screen reader and a keyboard find, and whether anything ran or sticks out.
pub const STRUCTURE: &str = r"(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const levels = all('h1,h2,h3,h4').map((h) => Number(h.tagName[1]));
  const named = (svg) => (svg.getAttribute('aria-labelledby') || '').split(' ').every((id) => id && document.getElementById(id));
  const root = document.documentElement;
  return {
    pwned: typeof window.pwned,
    scripts: all('script').length,
    handlers: all('*').filter((e) => [...e.attributes].some((a) => a.name.startsWith('on'))).length,
    loads: all('img,iframe,object,embed,link,audio,video,source,form,base').length,
    lang: root.lang,
    title: document.title.length > 0,
    landmarks: ['header', 'main', 'footer'].map((name) => all(name).length),
    h1: levels.filter((level) => level === 1).length,
    jumps: levels.filter((level, at) => at > 0 && level > levels[at - 1] + 1).length,
    sections_without_name: all('section,article').filter((s) => !document.getElementById(s.getAttribute('aria-labelledby'))).length,
    tables_without_caption: all('table').filter((t) => !t.caption || !t.querySelector('th[scope]')).length,
    svgs: all('svg').length,
    svgs_without_name: all('svg').filter((s) => s.getAttribute('role') !== 'img' || !named(s)).length,
    repeated_ids: all('[id]').length - new Set(all('[id]').map((e) => e.id)).size,
    regions_without_key: all('.scroll').filter((r) => r.tabIndex !== 0 || !r.getAttribute('aria-label')).length,
    times_without_tip: all('time').filter((t) => !t.title || !t.dateTime).length,
    sticks_out: root.scrollWidth - root.clientWidth,
    ground: getComputedStyle(document.body).backgroundColor,
  };
})()";
