// Texts whose contrast with what lies behind them is below 4.5 to 1 (WCAG AA, 1.4.3), with the ratio.

(() => {
  const canvas = document.createElement("canvas");
  canvas.width = 1;
  canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });

  /** What colours painted over one another on white look like: red, green, blue. */
  const paint = (colours) => {
    for (const colour of ["#fff", ...colours]) {
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
    }
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (colours) => {
    const [r, g, b] = paint(colours).map((value) => {
      const share = value / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };

  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const element = node.parentElement;
    const said = node.textContent.trim();
    if (said === "" || element.closest(".unseen, svg") !== null) continue;
    if (!element.checkVisibility()) continue;
    const behind = [];
    for (let one = element; one !== null; one = one.parentElement) {
      behind.unshift(getComputedStyle(one).backgroundColor);
    }
    const ground = luminance(behind);
    const ink = luminance([...behind, getComputedStyle(element).color]);
    const ratio = (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05);
    if (ratio < 4.5) faint.push(`${said.slice(0, 40)} (${element.className}): ${ratio.toFixed(2)}`);
  }
  return faint;
})();
