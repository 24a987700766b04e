// Keys of the review page: each presses the button or follows the link that carries it. All works without this file.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const target = /^[sdhlujk]$/.test(event.key) && document.querySelector(`[data-key="${event.key}"]`);
  if (target) {
    event.preventDefault();
    target.click();
  }
});
