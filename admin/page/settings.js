"use strict";
// The settings in force: those that differ from the defaults, or all.

async function loadSettings() {
  const all = $("all-settings").checked;
  try {
    const text = await (await ask(all ? "settings" : "settings?only=changed")).text();
    if (all === $("all-settings").checked) $("settings").textContent = text.trimEnd();
  } catch (e) {
    $("settings").textContent = e.message;
  }
}

$("all-settings").addEventListener("change", loadSettings);
$("load-settings").addEventListener("click", loadSettings);
