(function () {
  function all(is_open) {
    document.querySelectorAll("details").forEach(function (one) { one.open = is_open; });
  }
  function reveal() {
    var target = location.hash.length ? document.getElementById(location.hash.slice(1)) : null;
    if (!target) { return; }
    for (var one = target; one; one = one.parentElement) {
      if (one.tagName === "DETAILS") { one.open = true; }
    }
    target.scrollIntoView();
  }
  var tools = document.querySelector(".tools");
  tools.hidden = false;
  tools.querySelector(".open").addEventListener("click", function () { all(true); });
  tools.querySelector(".close").addEventListener("click", function () { all(false); });
  window.addEventListener("hashchange", reveal);
  reveal();
})();
