// Measures goroutines. The arguments and the output are those of threads.py.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// memory returns the resident memory of this process in bytes.
func memory() float64 {
	status, _ := os.ReadFile("/proc/self/status")
	_, found, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, _ := strconv.Atoi(strings.Fields(found)[0])
	return float64(kilobytes) * 1024
}

// start starts goroutines that do nothing, one at a time. It returns the seconds per goroutine.
func start(count int) float64 {
	done := make(chan int)
	begin := time.Now()
	for i := 0; i < count; i++ {
		go func() { done <- 0 }()
		<-done
	}
	return time.Since(begin).Seconds() / float64(count)
}

// idle starts goroutines that wait. It returns the bytes of memory per goroutine.
func idle(count int) float64 {
	ready, end, done := make(chan int), make(chan int), make(chan int)
	before := memory()
	for i := 0; i < count; i++ {
		go func() {
			ready <- 0
			<-end
			done <- 0
		}()
		<-ready
	}
	used := memory() - before
	close(end)
	for i := 0; i < count; i++ {
		<-done
	}
	return used / float64(count)
}

// switched sends values to another goroutine and back. It returns the seconds per direction.
func switched(count int) float64 {
	there, back := make(chan int), make(chan int)
	go func() {
		for i := 0; i < count; i++ {
			back <- <-there
		}
	}()
	begin := time.Now()
	for i := 0; i < count; i++ {
		there <- i
		<-back
	}
	return time.Since(begin).Seconds() / float64(count) / 2
}

// runs sleeps for a millisecond repeatedly while another goroutine works. It returns the wake-up
// times as JSON.
func runs(work func(time.Duration), duration time.Duration) string {
	var found []float64
	begin := time.Now()
	done := make(chan int)
	go func() {
		work(duration)
		close(done)
	}()
	for alive := true; alive; {
		select {
		case <-done:
			alive = false
		default:
		}
		time.Sleep(time.Millisecond)
		found = append(found, time.Since(begin).Seconds())
	}
	return strings.ReplaceAll(fmt.Sprint(found), " ", ",")
}

func compute(duration time.Duration) {
	for begin := time.Now(); time.Since(begin) < duration; {
	}
}

// block waits in a system call. The runtime knows only that the goroutine is in one.
func block(duration time.Duration) {
	wanted := syscall.NsecToTimespec(duration.Nanoseconds())
	syscall.Nanosleep(&wanted, nil)
}

func main() {
	count, _ := strconv.Atoi(os.Args[1])
	seconds, _ := strconv.ParseFloat(os.Args[2], 64)
	duration := time.Duration(seconds * float64(time.Second))
	fmt.Printf(
		`{"start": %g, "memory": %g, "switch": %g, "computes": %s, "blocks": %s}`+"\n",
		start(count), idle(count), switched(count), runs(compute, duration), runs(block, duration),
	)
}
