// Making an app takes as long as its build: say so meanwhile.
"use strict";
const button = document.querySelector("button.go"), label = button.textContent;
button.form.addEventListener("submit", () => {
	button.disabled = true;
	button.textContent = "Building …";
});
addEventListener("pageshow", () => { // also when the browser goes back to this page
	button.disabled = false;
	button.textContent = label;
});
