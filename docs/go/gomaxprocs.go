package constructs

import "runtime"

// show
func oneAtATime(pumps []func()) {
	runtime.GOMAXPROCS(1)
	for _, pump := range pumps {
		go pump() // ready, but waits for the processor
	}
}
