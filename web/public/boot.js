/* global document, localStorage, matchMedia, navigator */
// Runs before the first paint, as a file of its own because the content security policy allows no inline script:
// sets the remembered theme and language on the root element, so that nothing flashes.
(function () {
  var root = document.documentElement;
  var remembered = {};
  try {
    remembered = JSON.parse(localStorage.getItem('taskdash.preferences') || '{}') || {};
  } catch {
    // Storage is switched off or holds something else: the browser's own wishes count.
  }
  var dark = matchMedia('(prefers-color-scheme: dark)').matches;
  var wished = remembered.theme === 'light' || remembered.theme === 'dark' ? remembered.theme : dark ? 'dark' : 'light';
  root.setAttribute('data-theme', wished);
  var languages = remembered.language ? [remembered.language] : navigator.languages || [navigator.language];
  var chinese = false;
  for (var i = 0; i < languages.length; i++) {
    if (/^zh\b/i.test(languages[i])) {
      chinese = true;
      break;
    }
    if (/^en\b/i.test(languages[i])) break;
  }
  root.setAttribute('lang', chinese ? 'zh-CN' : 'en');
})();
